"""Configurations as text: ``"lora[r=16,alpha=32]|prefix_tuning[prefix_length=10]"``.

::

    config   = part { "|" part }
    part     = name [ "[" [ field "=" value { "," field "=" value } ] "]" ]
    value    = a Python literal: number, 'text', True, None, list, dict
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.configs.presets import ADAPTER_CONFIG_MAP, DEFAULT_ADAPTER_CONFIG
from adapterhub.configs.union import ConfigUnion
from adapterhub.errors import ConfigError, did_you_mean

_PART = re.compile(r"(?P<name>[^\[\]|]+?)\s*(?:\[(?P<body>.*)\])?", re.DOTALL)
_MAX_LENGTH = 10_000


def resolve_config(config: Any = None, **overrides: Any) -> AdapterConfig:
    """Return *config* as a configuration object.

    Args:
        config: a configuration; ``None`` (``"seq_bn"``); a mapping as in adapter_config.json; a name or text
            in the language above; the path of a JSON file (its ``"config"`` key is used if it has one).
        overrides: fields to change.

    Raises:
        ConfigError: naming what is unknown or malformed.
    """
    if config is None or config == "":
        config = DEFAULT_ADAPTER_CONFIG
    if isinstance(config, Path):
        config = str(config)
    if isinstance(config, str):
        config = _from_text(config)
    elif isinstance(config, dict):
        config = AdapterConfig.from_dict(config)
    if not isinstance(config, AdapterConfig):
        raise ConfigError(f"Not an adapter configuration: {config!r}")
    return config.replace(**overrides) if overrides else config


def _from_text(text: str) -> AdapterConfig:
    if text in ADAPTER_CONFIG_MAP:
        return ADAPTER_CONFIG_MAP[text]
    if text.endswith(".json"):
        return _from_file(Path(text))
    return parse_config_string(text)


def _from_file(path: Path) -> AdapterConfig:
    try:
        data = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read a configuration from {path}: {error}") from error
    if isinstance(data, dict) and isinstance(data.get("config"), dict):
        data = data["config"]
    return AdapterConfig.from_dict(data)


def parse_config_string(text: str) -> AdapterConfig:
    """Parse the language above. Raises ConfigError for anything malformed, and nothing else."""
    if len(text) > _MAX_LENGTH:
        raise ConfigError(f"A configuration text of {len(text)} characters; at most {_MAX_LENGTH}.")
    parts = [_parse_part(part.strip(), text) for part in _split(text, "|")]
    return parts[0] if len(parts) == 1 else ConfigUnion(*parts)


def _parse_part(part: str, text: str) -> AdapterConfig:
    match = _PART.fullmatch(part)
    if match is None:
        raise ConfigError(
            f"Cannot read {part!r} in the configuration {text!r}: expected name[field=value,…]."
        )
    name, body = match["name"], match["body"]
    config = ADAPTER_CONFIG_MAP.get(name)
    if config is None:
        raise ConfigError(
            f"Unknown configuration '{name}'; known: {', '.join(ADAPTER_CONFIG_MAP)}."
            f"{did_you_mean(name, ADAPTER_CONFIG_MAP)}"
        )
    changes: dict[str, Any] = {}
    for item in _split(body or "", ","):
        if not item.strip():
            continue
        field, equals, value = item.partition("=")
        if not equals or not field.strip().isidentifier():
            raise ConfigError(f"Cannot read {item.strip()!r} in {part!r}: expected field=value.")
        try:
            changes[field.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            raise ConfigError(
                f"Cannot read the value of {field.strip()!r} in {part!r}: {value.strip()!r} is no Python "
                "literal (text needs quotes)."
            ) from None
    return config.replace(**changes) if changes else config


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that are outside of brackets and quotes."""
    pieces, start, depth, quote = [], 0, 0, ""
    escaped = False
    for index, char in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth -= 1
        elif char == separator and depth == 0:
            pieces.append(text[start:index])
            start = index + 1
    pieces.append(text[start:])
    return pieces
