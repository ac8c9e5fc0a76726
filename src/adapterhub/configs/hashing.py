"""The short hash by which hubs and old files tell configurations apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.errors import ConfigError

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


def config_hash(
    config: AdapterConfig | Mapping[str, Any], length: int = 16, *, drop_later_defaults: bool = True
) -> str:
    """Return the hash of a configuration or its dictionary, exactly the peer's.

    SHA-1 of the JSON with sorted keys, without falsy values, shortened. It names a configuration and does
    not identify it: some that differ share one, since ``phm_layer=True`` is left out (Compacter++ and a
    SeqBn with its width and activation) and ``False`` too (NoReFT and DiReFT). Compare dictionaries to
    tell two apart.

    Args:
        config: what to hash.
        length: hex digits to return, up to 40.
        drop_later_defaults: the rule of the library since version 3; False: that of the hub's index.

    Raises:
        ConfigError: a union without members, or members that are no mappings.
    """
    data = config.to_dict() if isinstance(config, AdapterConfig) else dict(config)
    if data.get("architecture") == "union":  # hashed under the keys "<member>.<field>"
        members = data.get("configs")
        if not isinstance(members, list) or not all(isinstance(m, Mapping) for m in members):
            raise ConfigError("A union has the key 'configs' with a list of mappings.")
        data = {f"{i}.{k}": v for i, member in enumerate(members) for k, v in member.items()}
    if drop_later_defaults:
        data = {k: v for k, v in data.items() if not (k in _LATER and v == _LATER[k])}
    text = json.dumps(_without_falsy(data), sort_keys=True)
    return hashlib.sha1(text.encode("ascii"), usedforsecurity=False).hexdigest()[:length]


def _without_falsy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_falsy(v) for k, v in value.items() if v}
    return value
