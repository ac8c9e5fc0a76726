"""The peer's recorded dictionaries: from the specification it was given, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterhub import configs
from adapterhub.configs import (
    AdapterConfig,
    CompacterPlusPlusConfig,
    SeqBnConfig,
    config_hash,
    resolve_config,
)
from adapterhub.errors import ConfigError


def build(spec: Any) -> AdapterConfig:
    """Make a configuration as the recording did: a text, or a class with arguments."""
    if isinstance(spec, str):
        return resolve_config(spec)
    arguments = [build(item) for item in spec.get("args", [])]
    return getattr(configs, spec["class"])(*arguments, **spec.get("kwargs", {}))


def test_recorded_specifications(shared: Path) -> None:
    recorded = json.loads((shared / "golden" / "configs.json").read_text())
    seen = set()
    for path in (shared / "golden" / "cases").glob("*/case.json"):
        for adapter in json.loads(path.read_text())["adapters"].values():
            found = build(adapter["spec"]).to_dict()
            assert type(build(adapter["spec"])).__name__ == adapter["config_class"]
            if adapter["config_class"] == "DiReftConfig":  # ours to add: the peer loses it
                assert found.pop("subtract_projection") is False
            assert found == recorded[adapter["config_id"]], adapter["spec"]
            seen.add(adapter["config_id"])
    assert len(seen) > 70


def test_the_peers_collision_is_kept() -> None:
    hyper = CompacterPlusPlusConfig(reduction_factor=8)
    plain = SeqBnConfig(reduction_factor=8, non_linearity="gelu")
    assert config_hash(hyper) == config_hash(plain)
    assert hyper != plain
    assert config_hash(resolve_config("direft")) == config_hash(resolve_config("noreft"))


def test_hash_of_a_dictionary_is_that_of_its_configuration() -> None:
    for name in ("seq_bn", "mam", "lora"):
        config = resolve_config(name)
        assert config_hash(config) == config_hash(config.to_dict())
    assert config_hash(SeqBnConfig()) != config_hash(SeqBnConfig(reduction_factor=16.0))
    for bad in ({"architecture": "union"}, {"architecture": "union", "configs": [1]}):
        with pytest.raises(ConfigError, match="configs"):
            config_hash(bad)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pfeiffer", "seq_bn"),
        ("houlsby", "double_seq_bn"),
        ("parallel", "par_bn"),
        ("scaled_parallel", "scaled_par_bn"),
        ("pfeiffer+inv", "seq_bn_inv"),
        ("houlsby+inv", "double_seq_bn_inv"),
    ],
)
def test_names_of_earlier_papers(old: str, new: str) -> None:
    assert resolve_config(old) == resolve_config(new)


def test_all_names_of_the_peer() -> None:
    names = """seq_bn double_seq_bn par_bn scaled_par_bn seq_bn_inv double_seq_bn_inv compacter compacter++
        prefix_tuning prefix_tuning_flat prompt_tuning mtl_lora lora ia3 vera dora dvora loreft noreft direft
        mam unipelt"""
    assert set(names.split()) <= set(configs.ADAPTER_CONFIG_MAP)
