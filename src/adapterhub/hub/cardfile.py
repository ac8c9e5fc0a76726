"""Reading and writing YAML card files that strangers may have written.

Three dangers are closed here, once, for every card: size (a cap, before parsing), structure
(aliases are refused, so that no "billion laughs" can grow; nesting and node count are capped; tags
are refused; a key may occur once), and YAML 1.1 surprises (``no`` is Norwegian and not ``False``,
``2021-01-01`` stays text). A scalar is a number, ``true``, ``false`` or ``null`` by the core rules
of YAML 1.2; all else is text. What is written reads the same under both versions of YAML.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from adapterhub.errors import HubError

MAX_CARD_BYTES = 512 * 1024
MAX_DEPTH = 32
MAX_EVENTS = 50_000

_BASE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NULL = re.compile(r"~|null|Null|NULL|")
_SCALARS = (
    ("bool", _BOOL, "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("null", _NULL, ["~", "n", "N", ""]),
)


def _full(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern.pattern})\Z")


class _CardLoader(_BASE_LOADER):
    """The safe loader with YAML 1.2 scalars, unique text keys and nothing else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise HubError(f"line {key_node.start_mark.line + 1}: a key must be text: {key!r}")
            if key in result:
                raise HubError(f"line {key_node.start_mark.line + 1}: key {key!r} occurs twice")
            result[key] = self.construct_object(value_node, deep=deep)
        return result


class _CardDumper(yaml.SafeDumper):
    """The safe dumper; text that either YAML version would misread is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


for _name, _pattern, _first in _SCALARS:
    for _class in (_CardLoader, _CardDumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _full(_pattern), list(_first))


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    lines = text.split("\n")
    block = (
        len(lines) > 1
        and lines[0][:1].strip() != ""
        and all(line.isprintable() and line == line.rstrip() for line in lines)
    )
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if block else None)


_CardDumper.add_representer(str, _represent_text)


def _refuse_tricks(text: str) -> None:
    """Walk the parser's events, which is cheap, before anything is built from them."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_BASE_LOADER)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise HubError(f"line {line}: YAML anchors and aliases (& and *) are not allowed here")
        if getattr(event, "tag", None):
            raise HubError(f"line {line}: YAML tags (!) are not allowed here")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > MAX_EVENTS:
            raise HubError(f"line {line}: nested too deeply, or too many values")


def loads(data: bytes | str) -> dict[str, Any]:
    """Parse one YAML document whose top level is a mapping with text keys.

    Raises:
        HubError: If it is too large, not UTF-8, not well-formed, or uses anchors, aliases, tags,
            repeated keys or nesting beyond the limits.
    """
    if len(data) > MAX_CARD_BYTES:
        raise HubError(f"larger than the {MAX_CARD_BYTES // 1024} KiB that a card may have")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        _refuse_tricks(text)
        value = yaml.load(text, Loader=_CardLoader)  # a subclass of the safe loader
    except HubError:
        raise
    except UnicodeError as error:
        raise HubError("not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise HubError(f"{place}not valid YAML: {getattr(error, 'problem', error)}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise HubError(f"not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise HubError("a card must be a mapping of 'key: value' lines")
    return value


def load(path: Path) -> dict[str, Any]:
    """Read the card at *path*; see :func:`loads`."""
    with path.open("rb") as file:
        data = file.read(MAX_CARD_BYTES + 1)
    return loads(data)


def dumps(card: Mapping[str, Any], comment: str = "") -> bytes:
    """Return *card* as UTF-8 YAML in the order of its keys, below an optional comment line."""
    body = yaml.dump(dict(card), Dumper=_CardDumper, sort_keys=False, allow_unicode=True, width=100)
    head = f"# {comment}\n" if comment else ""
    return (head + body).encode("utf-8")
