"""The short name of an adapter configuration: its hash, its method and a one-line summary.

A configuration hash names what an adapter is made of, so that "the Houlsby one" can be picked
among several adapters for one dataset. Two rules are in use in the wild and both are honoured:
that of the card hub (empty values do not count) and that of the library from version 3 on (values
at their later-added defaults do not count either). Both hash ``2`` and ``2.0`` apart, which nobody
who asks for a reduction factor of two can know; matching therefore compares sets of hashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapterhub.configs.hashing import config_hash

HASH_PATTERN = re.compile(r"[0-9a-f]{16}")

#: Names that the AdapterHub papers and library use for one and the same configuration.
SYNONYMS = {
    "pfeiffer": "seq_bn",
    "houlsby": "double_seq_bn",
    "parallel": "par_bn",
    "scaled_parallel": "scaled_par_bn",
    "pfeiffer+inv": "seq_bn_inv",
    "houlsby+inv": "double_seq_bn_inv",
}


def _hash(config: Mapping[str, Any], *, later: bool) -> str:
    """Hash a configuration from a card, which may be of any shape; ``""`` if it cannot be one."""
    try:
        return config_hash(dict(config), drop_later_defaults=later)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return ""


def integral(value: Any) -> Any:
    """Return *value* with each float that is a whole number made an ``int``, recursively."""
    if isinstance(value, Mapping):
        return {key: integral(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [integral(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def card_hash(config: Mapping[str, Any]) -> str:
    """Hash by the rule of the card hub: 16 hex digits."""
    return _hash(config, later=False)


def library_hash(config: Mapping[str, Any]) -> str:
    """Hash by the rule of the library since version 3: 16 hex digits."""
    return _hash(config, later=True)


def all_hashes(config: Mapping[str, Any]) -> frozenset[str]:
    """Every hash under which *config* may be asked for; two configs match if these sets meet."""
    whole = integral(config)
    found = {rule(form) for rule in (card_hash, library_hash) for form in (config, whole)}
    return frozenset(found - {""})


def method_name(config: Mapping[str, Any]) -> str:
    """Return the usual name of the method, e.g. ``double_seq_bn`` or ``lora``."""
    if "peft_type" in config:
        method = str(config["peft_type"]).lower()
        return "dora" if method == "lora" and config.get("use_dora") else method
    architecture = config.get("architecture")
    if architecture == "union":
        members = [item for item in config.get("configs") or [] if isinstance(item, Mapping)]
        return "+".join(method_name(item) for item in members) or "union"
    if architecture == "lora":
        if config.get("composition_mode") == "scale":
            return "ia3"
        vera = config.get("vera_d") is not None or config.get("vera_b") is not None
        if config.get("use_dora"):
            return "dvora" if vera else "dora"
        return "vera" if vera else "lora"
    if architecture:
        return str(architecture)
    both = bool(config.get("mh_adapter")) and bool(config.get("output_adapter"))
    if config.get("phm_layer"):
        return "compacter" if both else "compacter++"
    if config.get("is_parallel"):
        return "scaled_par_bn" if config.get("scaling") == "learned" else "par_bn"
    name = "double_seq_bn" if both else "seq_bn"
    return name + ("_inv" if config.get("inv_adapter") else "")


def same_method(one: str, other: str) -> bool:
    """Tell whether two architecture names mean the same (``pfeiffer`` is ``seq_bn``)."""
    one, other = one.casefold(), other.casefold()
    return SYNONYMS.get(one, one) == SYNONYMS.get(other, other)


def summary(config: Mapping[str, Any]) -> str:
    """Return the settings that people tell configurations apart by, e.g. ``rf=16, relu``."""
    shown = []
    for key, label in (("reduction_factor", "rf"), ("r", "r"), ("alpha", "alpha")):
        value = config.get(key)
        if value is not None and not isinstance(value, Mapping):
            shown.append(f"{label}={integral(value)}")
    for key in ("prefix_length", "prompt_length"):
        if config.get(key) is not None:
            shown.append(f"length={config[key]}")
    if not config.get("architecture") and config.get("non_linearity"):
        shown.append(str(config["non_linearity"]))
    return ", ".join(shown)
