"""Checks a card against its JSON schema (draft 2020-12; the files lie in ``schemas/``).

The schemas accept every field of the original AdapterHub cards, plus ours; keys that begin with
``x-`` are left to whoever runs a hub. They describe cards after :mod:`.repairs` has removed empty
values and outer blanks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

CardKind = Literal["hub", "adapter_type", "task", "subtask", "architecture", "adapter"]


@cache
def card_schema(kind: CardKind) -> dict[str, Any]:
    """Return the JSON schema of one kind of card."""
    source = files("adapterhub.hub").joinpath("schemas").joinpath(f"{kind}.schema.json")
    return json.loads(source.read_text(encoding="utf-8"))


@cache
def _validator(kind: CardKind) -> Any:
    from jsonschema import Draft202012Validator  # slow to import, and not needed to show a card

    return Draft202012Validator(card_schema(kind))


def schema_problems(kind: CardKind, card: Mapping[str, Any], *, limit: int = 10) -> list[str]:
    """Return what is wrong with *card*, one line each, at most *limit* lines."""
    problems = []
    for error in _validator(kind).iter_errors(card):
        place = ".".join(str(part) for part in error.absolute_path)
        message = error.message if len(error.message) < 200 else error.message[:200] + "..."
        problems.append(f"{place}: {message}" if place else message)
        if len(problems) == limit:
            break
    return sorted(problems)
