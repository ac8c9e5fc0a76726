"""Files of older versions keep the meaning that they had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterhub.configs import (
    BnConfig,
    DoubleSeqBnConfig,
    LoRAConfig,
    SeqBnConfig,
    SeqBnInvConfig,
    VeraConfig,
    config_from_file,
)
from adapterhub.errors import ConfigError

#: As version 1 wrote it.
FIRST = {
    "adapter_residual_before_ln": False,
    "attention_type": "sent-lvl-dynamic",
    "invertible_adapter": {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2},
    "ln_after": False,
    "ln_before": False,
    "mh_adapter": False,
    "new_attention_norm": False,
    "non_linearity": "relu",
    "original_ln_after": True,
    "original_ln_before": True,
    "output_adapter": True,
    "reduction_factor": 16,
    "residual_before_ln": True,
}


def test_version_1() -> None:
    assert config_from_file({"config": FIRST, "type": "text_lang"}) == SeqBnInvConfig()
    assert config_from_file({"config": {**FIRST, "invertible_adapter": None}}) == SeqBnConfig()
    with pytest.raises(ConfigError, match="invertible_adapter"):
        config_from_file({"config": {**FIRST, "invertible_adapter": "nice"}})


@pytest.mark.parametrize(
    ("version", "stored", "meant"),
    [
        (None, "gelu", "gelu_new"),
        (None, "gelu_orig", "gelu"),
        (None, "relu", "relu"),
        ("2.0.0", "gelu", "gelu"),
        ("adapters.1.3.0", "gelu", "gelu"),
    ],
)
def test_gelu(version: str | None, stored: str, meant: str) -> None:
    config = {**SeqBnConfig().to_dict(), "non_linearity": stored}
    facts = {"config": config} if version is None else {"config": config, "version": version}
    assert config_from_file(facts)["non_linearity"] == meant
    assert config["non_linearity"] == stored  # the caller's mapping is left alone


@pytest.mark.parametrize(
    ("version", "alpha"),
    [
        ("adapters.0.2.1", 4),
        ("adapters.1.0.1", 4),
        ("adapters.1.1.0", 32),
        ("adapters.1.10.0", 32),
        ("3.2.1", 32),
        ("adapterhub.0.1.0", 32),
        (None, 32),
        (1.0, 32),
    ],
)
def test_alpha(version: Any, alpha: int) -> None:
    facts = {"config": LoRAConfig(r=4, alpha=32).to_dict(), "version": version}
    assert config_from_file(facts)["alpha"] == alpha


def test_vera_with_integers_was_lora() -> None:
    stored = {**VeraConfig(alpha=16).to_dict(), "vera_d": 1, "vera_b": 0}
    assert config_from_file({"config": stored, "version": "adapters.1.3.0"}) == LoRAConfig(alpha=16)
    stored["vera_b"] = 0.5
    found = config_from_file({"config": stored, "version": "adapters.1.3.0"})
    assert found == VeraConfig(alpha=16, vera_d=1, vera_b=0.5)


def test_names_and_never_paths(tmp_path: Path) -> None:
    assert config_from_file({"config": "pfeiffer+inv"}) == SeqBnInvConfig()
    assert config_from_file({"config": "houlsby", "version": "1.0.0"}) == DoubleSeqBnConfig()
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(SeqBnConfig().to_dict()))
    with pytest.raises(ConfigError, match="Unknown configuration"):
        config_from_file({"config": str(secret)})


def test_architectures_of_the_card_hub(shared: Path) -> None:
    path = shared / "hub_cards" / "dist" / "v2" / "architectures.json"
    if not path.is_file():
        pytest.skip("no hub cards among the reference data")
    for config in json.loads(path.read_text()).values():
        assert isinstance(config_from_file({"config": config.get("config", config)}), BnConfig)
