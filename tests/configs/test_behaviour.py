"""What all configurations do: mappings, immutability, copies, unions, presets from outside."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from adapterhub import configs
from adapterhub.configs import (
    AdapterConfig,
    AdapterFusionConfig,
    BnConfig,
    ConfigUnion,
    DiReftConfig,
    LoRAConfig,
    MAMConfig,
    MTLLoRAConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    SeqBnConfig,
    UniPELTConfig,
    VeraConfig,
    presets,
    register_preset,
    resolve_config,
)
from adapterhub.errors import ConfigError


@pytest.mark.parametrize("name", sorted(configs.ADAPTER_CONFIG_MAP))
def test_a_configuration_is_a_mapping(name: str) -> None:
    config = resolve_config(name)
    assert isinstance(config, Mapping)
    assert len(config) == len(list(config)) == len(config.keys())
    assert all(key in config and config[key] == value for key, value in config.items())
    assert "no such" not in config
    assert config.get("no such", 3) == 3
    assert config == config.to_dict()
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert type(twin) is type(config)
        assert hash(twin) == hash(config)
    with pytest.raises(KeyError):
        config["no such"]


def test_presets_cannot_be_changed() -> None:
    config: Any = resolve_config("lora")
    with pytest.raises(AttributeError):
        config.leave_out.append(1)
    config.to_dict()["leave_out"].append(1)
    config["attn_matrices"].append("k")
    assert resolve_config("lora") == LoRAConfig()


def test_the_given_map_and_list_are_not_kept() -> None:
    factors, layers = {"default": 4}, [1]
    config = SeqBnConfig(reduction_factor=factors, leave_out=layers)
    factors["default"], layers[0] = 9, 9
    assert config["reduction_factor"] == {"default": 4}
    assert config["leave_out"] == [1]


def test_equal_configurations_have_equal_hashes() -> None:
    assert (
        SeqBnConfig() == SeqBnConfig(reduction_factor=16.0) == BnConfig(**SeqBnConfig().to_dict())
    )
    assert len({SeqBnConfig(), SeqBnConfig(reduction_factor=16.0), LoRAConfig()}) == 2
    assert LoRAConfig() != 3


def test_integers_become_floats_where_files_have_floats() -> None:
    for config, name in (
        (SeqBnConfig(scaling=2), "scaling"),
        (SeqBnConfig(dropout=0), "dropout"),
        (VeraConfig(vera_d=1), "vera_d"),
    ):
        assert type(config[name]) is float
    assert type(SeqBnConfig(reduction_factor=8)["reduction_factor"]) is int
    assert type(SeqBnConfig(reduction_factor=8.0)["reduction_factor"]) is float


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        AdapterConfig()


def test_class_of_a_dictionary() -> None:
    assert type(AdapterConfig.from_dict(SeqBnConfig().to_dict())) is BnConfig
    named = {**SeqBnConfig().to_dict(), "architecture": "bottleneck"}
    assert AdapterConfig.from_dict(named) == BnConfig.from_dict(named) == SeqBnConfig()
    assert LoRAConfig.from_dict({"r": 4}) == LoRAConfig(r=4)
    assert type(VeraConfig.from_dict(VeraConfig().to_dict())) is VeraConfig
    assert resolve_config(MappingProxyType({"architecture": "lora"})) == LoRAConfig()
    assert type(AdapterConfig.from_dict({"architecture": "mtl_lora"})) is MTLLoRAConfig
    with pytest.raises(ConfigError, match="'mtl_lora'"):
        LoRAConfig.from_dict({"architecture": "mtl_lora"})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"architecture": "lorra"}, "Did you mean 'lora'"),
        ({"architecture": [1]}, "Unknown architecture"),
        ({"architecture": "lora", "rr": 1, "dropuot": 0.1}, "2 unknown.*'rr'.*'dropout'"),
        ({"architecture": "lora", 1: 2}, "1 is no field"),
        ({"mh_adapter": True, "reduction_factor": 2}, "needs.*output_adapter, non_linearity"),
        ({"architecture": "union"}, "'configs'"),
        ({"architecture": "union", "configs": []}, "at least one"),
        ({"architecture": "union", "configs": [1]}, "mapping"),
        ({"architecture": "union", "configs": [{"architecture": "union"}]}, "another union"),
        ([], "Not an adapter"),
        (3, "Not an adapter"),
        (AdapterFusionConfig(), "Not an adapter"),
    ],
)
def test_bad_dictionaries(data: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        resolve_config(data)


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (SeqBnConfig, {"dropout": float("nan")}),
        (SeqBnConfig, {"stochastic_depth": 1}),
        (SeqBnConfig, {"reduction_factor": float("inf")}),
        (SeqBnConfig, {"reduction_factor": float("nan")}),
        (SeqBnConfig, {"reduction_factor": {}}),
        (SeqBnConfig, {"reduction_factor": {"01": 2}}),
        (SeqBnConfig, {"reduction_factor": {-1: 2}}),
        (SeqBnConfig, {"reduction_factor": {True: 2}}),
        (SeqBnConfig, {"reduction_factor": {1: 2, "1": 3}}),
        (SeqBnConfig, {"reduction_factor": True}),
        (SeqBnConfig, {"residual_before_ln": 1}),
        (SeqBnConfig, {"mh_adapter": 1}),
        (SeqBnConfig, {"non_linearity": ""}),
        (SeqBnConfig, {"leave_out": [-1]}),
        (SeqBnConfig, {"leave_out": [True]}),
        (SeqBnConfig, {"leave_out": "12"}),
        (SeqBnConfig, {"inv_adapter": "real_nvp"}),
        (SeqBnConfig, {"inv_adapter_reduction_factor": 0}),
        (SeqBnConfig, {"scaling": 10**5000}),
        (SeqBnConfig, {"scaling": []}),
        (SeqBnConfig, {"phm_dim": 0}),
        (SeqBnConfig, {"phm_rank": 0}),
        (SeqBnConfig, {"phm_c_init": "zero"}),
        (SeqBnConfig, {"learn_phm": "yes"}),
        (LoRAConfig, {"r": 10**5000}),
        (LoRAConfig, {"r": 1.0}),
        (LoRAConfig, {"alpha": float("nan")}),
        (LoRAConfig, {"attn_matrices": 3}),
        (LoRAConfig, {"attn_matrices": [[]]}),
        (LoRAConfig, {"composition_mode": "scale"}),
        (LoRAConfig, {"composition_mode": "scale", "r": 1, "dropout": 0.1}),
        (LoRAConfig, {"dtype": 16}),
        (MTLLoRAConfig, {"weights_sharpness": 0}),
        (PromptTuningConfig, {"prompt_init": "from_string"}),
        (PromptTuningConfig, {"combine": "suffix"}),
        (PrefixTuningConfig, {"bottleneck_size": 0}),
        (DiReftConfig, {"layers": "some"}),
        (DiReftConfig, {"layers": [True]}),
        (AdapterFusionConfig, {"value_initialized": "yes"}),
        (AdapterFusionConfig, {"dropout_prob": 2}),
    ],
)
def test_bad_values_name_the_field(cls: type[AdapterConfig], changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"allowed:|twice") as caught:
        cls(**changes)
    assert cls.__name__ in str(caught.value)
    assert any(name in str(caught.value) for name in changes)
    assert len(str(caught.value)) < 500


def test_direft_is_written_only_where_it_differs() -> None:
    assert DiReftConfig()["subtract_projection"] is False
    assert "subtract_projection" not in DiReftConfig().replace(subtract_projection=True)


def test_unions_by_their_classes() -> None:
    mam = MAMConfig(adapter=SeqBnConfig())
    assert isinstance(resolve_config("mam"), MAMConfig)
    assert [type(member) for member in mam.configs] == [PrefixTuningConfig, SeqBnConfig]
    assert all(member["use_gating"] for member in UniPELTConfig(lora=LoRAConfig(r=2)).configs)
    assert (mam["0.bottleneck_size"], mam["1.non_linearity"]) == (800, "relu")
    assert AdapterConfig.from_dict(mam.to_dict()) == mam
    for key in ("9.r", "0.r", "x.r", "0"):
        assert key not in mam


def test_unions_change_the_members_that_have_the_field() -> None:
    changed = resolve_config("mam").replace(reduction_factor=8, dropout=0.1)
    assert changed["1.reduction_factor"] == 8
    assert "0.reduction_factor" not in changed
    assert changed["0.dropout"] == changed["1.dropout"] == 0.1
    with pytest.raises(ConfigError, match=r"(?s)2 unknown.*reduction_factor.*'alpah'"):
        resolve_config("mam").replace(reduction_facto=8, alpah=1)


def test_members_of_one_method() -> None:
    with pytest.raises(ConfigError, match="leave_out"):
        ConfigUnion(LoRAConfig(), VeraConfig())
    ConfigUnion(LoRAConfig(leave_out=[0]), LoRAConfig())
    attention = SeqBnConfig(mh_adapter=True, output_adapter=False)
    assert len(ConfigUnion(attention, SeqBnConfig()).configs) == 2
    for bad in ((), (1,), (AdapterFusionConfig(),), (resolve_config("mam"), LoRAConfig())):
        with pytest.raises(ConfigError, match="union"):
            ConfigUnion(*bad)  # pyright: ignore[reportArgumentType]
    assert ConfigUnion(LoRAConfig(leave_out=[2, 0]), SeqBnConfig(leave_out=[0])).leave_out == (0,)


def test_overrides() -> None:
    assert AdapterConfig.load("pfeiffer", reduction_factor=12) == SeqBnConfig(reduction_factor=12)
    assert resolve_config("vera", vera_d=None) == VeraConfig()
    assert VeraConfig().replace(vera_d=None).vera_d is None
    with pytest.raises(ConfigError, match="'rank'"):
        resolve_config("lora", rank=1)


@pytest.mark.parametrize("name", ["config.json", "config"])
def test_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content, expected in (
        (LoRAConfig(r=3).to_dict(), LoRAConfig(r=3)),
        ({"config": LoRAConfig(r=3).to_dict(), "version": "x"}, LoRAConfig(r=3)),
        ({"config": "pfeiffer"}, SeqBnConfig()),
    ):
        path.write_text(json.dumps(content))
        assert resolve_config(path) == resolve_config(str(path)) == expected
    for content in (
        "{",
        "[" * 100_000,
        '{"config": null}',
        "[]",
        '{"x": 1}',
        '{"config": "a.json"}',
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=name):
            resolve_config(path)
    with pytest.raises(ConfigError, match=r"missing\.json"):
        resolve_config(str(tmp_path / "missing.json"))


@pytest.fixture
def own_presets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(presets, "_CLASSES", dict(presets._CLASSES))
    before = dict(configs.ADAPTER_CONFIG_MAP)
    yield
    configs.ADAPTER_CONFIG_MAP.clear()
    configs.ADAPTER_CONFIG_MAP.update(before)


@dataclass(frozen=True, eq=False)
class _Own(AdapterConfig):
    architecture: str | None = field(init=False, default="own")
    width: int = 3


@pytest.mark.usefixtures("own_presets")
def test_presets_from_outside() -> None:
    register_preset("own", _Own())
    register_preset("own", _Own())
    assert resolve_config("own[width=4]") == _Own(width=4)
    assert type(AdapterConfig.from_dict(_Own().to_dict())) is _Own
    for name, config in (("own", LoRAConfig()), ("a|b", _Own()), ("", _Own()), ("x", 3)):
        with pytest.raises(ConfigError):
            register_preset(name, config)  # pyright: ignore[reportArgumentType]


def test_fusion_configurations() -> None:
    static = AdapterFusionConfig.load("static", key=None, dropout_prob=0)
    assert (static.value, static.regularization, static.dropout_prob) == (False, False, 0.0)
    assert AdapterFusionConfig.load(static.to_dict(), query=False).query is False
    assert AdapterFusionConfig.from_dict({"value_initialized": "False"}).value_initialized is False
    for bad in (3, LoRAConfig(), "lora"):
        with pytest.raises(ConfigError, match="fusion"):
            AdapterFusionConfig.load(bad)
