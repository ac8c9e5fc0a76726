"""Configurations as text: ``"lora[r=16,alpha=32]|prefix_tuning[prefix_length=10]"``.

::

    config   = part { "|" part }
    part     = name [ "[" [ field "=" value { "," field "=" value } ] "]" ]
    value    = a Python literal: number, 'text', True, None, list, dict

A ``|`` or ``,`` inside of quotes or brackets separates nothing.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterhub.configs.base import AdapterConfig, show
from adapterhub.configs.fusion import AdapterFusionConfig
from adapterhub.configs.presets import ADAPTER_CONFIG_MAP, DEFAULT_ADAPTER_CONFIG
from adapterhub.configs.union import ConfigUnion
from adapterhub.errors import ConfigError, did_you_mean
from adapterhub.plugins import load_plugins

_MAX_LENGTH = 10_000


def resolve_config(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None, **overrides: Any
) -> AdapterConfig:
    """Return *config* as a configuration object.

    Args:
        config: a configuration; ``None`` (``"seq_bn"``); a mapping as in adapter_config.json; a name or text
            in the language above; the path of a JSON file (its ``"config"`` key is used if it has one).
        overrides: fields to change; ``None`` leaves a field as it is (``replace`` can set it to ``None``).

    Raises:
        ConfigError: naming what is unknown or malformed.
    """
    if config is None or config == "":
        config = DEFAULT_ADAPTER_CONFIG
    if isinstance(config, str):
        found = _from_text(config)
    elif isinstance(config, os.PathLike):
        found = _from_file(Path(config))
    elif isinstance(config, AdapterConfig) and not isinstance(config, AdapterFusionConfig):
        found = config
    elif isinstance(config, Mapping) and not isinstance(config, AdapterConfig):
        found = AdapterConfig.from_dict(config)
    else:
        raise ConfigError(
            f"Not an adapter configuration: {show(config)}; expected a configuration, a name, a text, a "
            "mapping, or the path of a JSON file."
        )
    changes = {name: value for name, value in overrides.items() if value is not None}
    return found.replace(**changes) if changes else found


def _from_text(text: str) -> AdapterConfig:
    if text in ADAPTER_CONFIG_MAP:
        return ADAPTER_CONFIG_MAP[text]
    if text.endswith(".json") or os.path.isfile(text):
        return _from_file(Path(text))
    return parse_config_string(text)


def _from_file(path: Path) -> AdapterConfig:
    try:
        data = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no home, nested too deeply
        raise ConfigError(f"Cannot read a configuration from {path}: {error}") from error
    if isinstance(data, dict) and "config" in data:
        data = data["config"]
    try:
        return parse_config_string(data) if isinstance(data, str) else AdapterConfig.from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config_string(text: str) -> AdapterConfig:
    """Parse the language above. Raises ConfigError for anything malformed, and nothing else."""
    if len(text) > _MAX_LENGTH:
        raise ConfigError(f"A configuration text of {len(text)} characters; at most {_MAX_LENGTH}.")
    parts = [_parse_part(part.strip(), text) for part in _split(text, "|")]
    return parts[0] if len(parts) == 1 else ConfigUnion(*parts)


def _parse_part(part: str, text: str) -> AdapterConfig:
    name, bracket, body = part.partition("[")
    name = name.strip()
    if not name or (bracket and not body.endswith("]")):
        raise ConfigError(
            f"Cannot read {show(part)} in the configuration {show(text)}: expected name[field=value,…]."
        )
    if name not in ADAPTER_CONFIG_MAP:
        load_plugins()
    config = ADAPTER_CONFIG_MAP.get(name)
    if config is None:
        raise ConfigError(
            f"Unknown configuration {show(name)}; known: {', '.join(ADAPTER_CONFIG_MAP)}."
            f"{did_you_mean(name, ADAPTER_CONFIG_MAP)}"
        )
    changes = _parse_fields(body[:-1], part)
    return config.replace(**changes) if changes else config


def _parse_fields(body: str, part: str) -> dict[str, Any]:
    items = _split(body, ",")
    if not items[-1].strip():  # nothing at all, or a comma at the end
        items.pop()
    fields: dict[str, Any] = {}
    for item in items:
        name, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals or not name.isidentifier():
            raise ConfigError(f"Cannot read {show(item)} in {show(part)}: expected field=value.")
        if name in fields:
            raise ConfigError(f"The field '{name}' is twice in {show(part)}.")
        try:
            fields[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            raise ConfigError(
                f"Cannot read the value of '{name}' in {show(part)}: {show(value)} is no Python literal "
                "(text needs quotes)."
            ) from None
    return fields


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
