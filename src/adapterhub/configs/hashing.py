"""The short hash by which hubs and old files tell configurations apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any

#: Pairs that later versions added, left out so that hashes stay what they were.
_LATER = {
    "phm_layer": True,
    "phm_dim": 4,
    "factorized_phm_W": True,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "factorized_phm_rule": False,
    "phm_c_init": "normal",
    "phm_init_range": 0.0001,
    "learn_phm": True,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "phm_rank": 1,
    "phm_bias": True,
    "init_weights": "bert",
    "scaling": 1.0,
}


def config_hash(config: Any, length: int = 16, *, drop_later_defaults: bool = True) -> str:
    """Return the hash of a configuration or its dictionary.

    SHA-1 of the JSON with sorted keys, without falsy values, shortened. Two different configurations can
    share one (compat note: Compacter++ and a SeqBn with its other values do), so it names, not proves.

    Args:
        drop_later_defaults: the rule of the library since version 3; False: that of the hub's index.
    """
    data = config if isinstance(config, dict) else config.to_dict()
    if data.get("architecture") == "union":  # hashed under the keys "<member>.<field>"
        members = enumerate(data["configs"])
        data = {f"{i}.{k}": v for i, member in members for k, v in member.items()}
    if drop_later_defaults:
        data = {k: v for k, v in data.items() if not (k in _LATER and v == _LATER[k])}
    text = json.dumps(_without_falsy(data), sort_keys=True)
    return hashlib.sha1(text.encode("ascii"), usedforsecurity=False).hexdigest()[:length]


def _without_falsy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_falsy(v) for k, v in value.items() if v}
    return value
