"""Configurations: the peer's dictionaries and hashes, the text language, bad values."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub import configs
from adapterhub.configs import (
    AdapterConfig,
    AdapterFusionConfig,
    BnConfig,
    ConfigUnion,
    DiReftConfig,
    LoRAConfig,
    PrefixTuningConfig,
    SeqBnConfig,
    config_from_file,
    config_hash,
    parse_config_string,
    resolve_config,
)
from adapterhub.errors import ConfigError

HASHES = {
    "seq_bn": "9076f36a74755ac4",
    "double_seq_bn": "b1017368d7a97b11",
    "par_bn": "211b85d66ae909db",
    "compacter": "934efc0c1022a56f",
    "prefix_tuning": "648bf22f5afeaaa6",
    "lora": "625403edad0bf919",
    "ia3": "1ebb5af107e576c0",
    "loreft": "141e29e6c21f7261",
    "mam": "97453c0dbc2dbc97",
    "unipelt": "67ac4937c601ad56",
    "prompt_tuning": "8e35d5049bb12364",
}


@pytest.mark.parametrize(("name", "value"), HASHES.items())
def test_hashes(name: str, value: str) -> None:
    assert config_hash(resolve_config(name)) == value


def test_recorded_dictionaries(shared: Path) -> None:
    recorded = json.loads((shared / "golden" / "configs.json").read_text())
    for data in recorded.values():
        assert AdapterConfig.from_dict(data).to_dict() == data


@pytest.mark.parametrize("name", sorted(configs.ADAPTER_CONFIG_MAP))
def test_presets_survive_json_and_pickle(name: str) -> None:
    config = resolve_config(name)
    assert AdapterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(resolve_config(name))


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        resolve_config("lora").r = 4  # type: ignore[attr-defined]


def test_language() -> None:
    config = resolve_config(
        "lora[r=16,attn_matrices=['q','k']] | prefix_tuning[non_linearity='a|b,c']"
    )
    assert isinstance(config, ConfigUnion)
    lora, prefix = config.configs
    assert lora == LoRAConfig(r=16, attn_matrices=["q", "k"])
    assert prefix == PrefixTuningConfig(non_linearity="a|b,c")
    assert resolve_config("lora[]") == LoRAConfig()
    assert resolve_config("seq_bn[reduction_factor={'1': 4, 'default': 16}]")[
        "reduction_factor"
    ] == {
        "1": 4,
        "default": 16,
    }
    assert resolve_config(None) == SeqBnConfig()
    assert resolve_config("lora", r=2) == LoRAConfig(r=2)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"config": LoRAConfig(r=3).to_dict(), "name": "x"}))
    assert resolve_config(str(path)) == LoRAConfig(r=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lorra", "lora"),
        ("lora[rank=3]", "'rank'"),
        ("lora[r=x]", "literal"),
        ("lora[r]", "field=value"),
        ("lora[r=16", "lora"),
        ("mam|lora", "union"),
        ("lora|lora", "leave_out"),
        ("seq_bn[scaling='big']", "learned"),
        ("seq_bn[dropout=1.5]", "dropout"),
        ("seq_bn[reduction_factor=0]", "reduction_factor"),
        ("seq_bn[reduction_factor={'x': 1}]", "reduction_factor"),
        ("seq_bn[leave_out=3]", "leave_out"),
        ("lora[attn_matrices=['z']]", "attn_matrices"),
        ("lora[r=True]", "r=True"),
        ("prefix_tuning[prefix_length=0]", "prefix_length"),
    ],
)
def test_errors_name_the_thing(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        resolve_config(text)


@given(st.text(alphabet="abcdefgilorsx_[]{}()|=,'\"\\0123. \n", max_size=60))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_config_string(text)


@given(
    st.integers(1, 64),
    st.floats(0.1, 64, allow_nan=False),
    st.lists(st.sampled_from(["q", "k", "v", "o"]), unique=True, min_size=1),
)
def test_language_round_trip(rank: int, alpha: float, matrices: list[str]) -> None:
    config = LoRAConfig(r=rank, alpha=alpha, attn_matrices=matrices)
    assert (
        parse_config_string(f"lora[r={rank}, alpha={alpha!r}, attn_matrices={matrices!r}]")
        == config
    )


def test_bottleneck_sizes() -> None:
    config = BnConfig(True, True, {1: 4, "default": 64}, "relu")
    assert [config.bottleneck_size(32, layer) for layer in range(3)] == [1, 8, 1]
    with pytest.raises(ConfigError, match="layer 2"):
        BnConfig(True, True, {"1": 4}, "relu").bottleneck_size(32, 2)


def test_legacy_files() -> None:
    old = {"config": {**SeqBnConfig(non_linearity="gelu").to_dict()}}
    assert config_from_file(old)["non_linearity"] == "gelu_new"
    assert config_from_file({**old, "version": "3.0.0"})["non_linearity"] == "gelu"
    lora = {"config": LoRAConfig(r=4, alpha=32).to_dict(), "version": "adapters.1.0.1"}
    assert config_from_file(lora)["alpha"] == 4
    assert config_from_file({**lora, "version": "adapters.1.1.0"})["alpha"] == 32
    first = {
        **SeqBnConfig().to_dict(),
        "invertible_adapter": {"block_type": "nice", "reduction_factor": 3},
    }
    found = config_from_file({"config": first, "version": "2.0.0"})
    assert (found["inv_adapter"], found["inv_adapter_reduction_factor"]) == ("nice", 3)
    with pytest.raises(ConfigError, match="no 'config'"):
        config_from_file({"name": "x"})


def test_direft_survives_its_file() -> None:
    stored = DiReftConfig().to_dict()
    assert stored["subtract_projection"] is False
    assert "subtract_projection" not in resolve_config("noreft")
    assert AdapterConfig.from_dict(stored)["subtract_projection"] is False


def test_fusion() -> None:
    assert AdapterFusionConfig.load("static").value is False
    assert AdapterFusionConfig.load(None) == AdapterFusionConfig()
    with pytest.raises(ConfigError, match="dynamic"):
        AdapterFusionConfig.load("dynamik")
    with pytest.raises(ConfigError, match="'keys'"):
        AdapterFusionConfig.from_dict({"keys": True})


def test_import_needs_no_torch() -> None:
    code = (
        "import sys, adapterhub.configs, adapterhub.composition; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
