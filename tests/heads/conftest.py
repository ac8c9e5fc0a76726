"""Tiny random models of ten families, with inputs, for the tests of heads."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.utils import logging

from adapterhub.model.auto import AutoAdapterModel

BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
}
TEXT = {**BERT, "vocab_size": 64, "max_position_embeddings": 32}

#: name -> (family, configuration class, its arguments)
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", TEXT),
    "roberta": ("Roberta", {**TEXT, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {**TEXT, "pad_token_id": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 64, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20},
    ),
    "gpt2": (
        "GPT2",
        {
            "vocab_size": 64,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 32,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "pad_token_id": 0,
        },
    ),
    "llama": ("Llama", {**TEXT, "pad_token_id": 0}),
    "qwen3": ("Qwen3", {**TEXT, "pad_token_id": 0, "num_key_value_heads": 1, "head_dim": 8}),
    "t5": (
        "T5",
        {"vocab_size": 64, "d_model": 16, "d_kv": 8, "num_layers": 2, "num_heads": 2, "d_ff": 20},
    ),
    "bart": (
        "Bart",
        {
            "vocab_size": 64,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 20,
            "decoder_ffn_dim": 20,
            "max_position_embeddings": 32,
        },
    ),
    "vit": ("ViT", {**BERT, "image_size": 8, "patch_size": 4}),
}
EXTRA = {"t5": {"decoder_start_token_id": 0}}
#: Number of real tokens in each row of 8.
LENGTHS = (8, 5, 7, 3)


@dataclass(frozen=True)
class Family:
    """One architecture at toy size."""

    name: str
    #: What class names begin with: ``Bert`` of ``BertModel``.
    stem: str

    def config(self) -> Any:
        """Return a fresh configuration."""
        arguments = {**CONFIGS[self.name][1], **EXTRA.get(self.name, {})}
        return getattr(transformers, f"{self.stem}Config")(**copy.deepcopy(arguments))

    def model(self) -> Any:
        """Return a model in eval mode with larger weights than usual, so that inputs matter."""
        torch.manual_seed(0)
        model = AutoAdapterModel.from_config(self.config())
        randomize(model)
        return model.eval()

    def inputs(self, left: bool = False) -> dict[str, torch.Tensor]:
        """Return a batch of four; text has an <eos> at the end of each row."""
        generator = torch.Generator().manual_seed(1)
        if self.name == "vit":
            return {"pixel_values": torch.randn(4, 3, 8, 8, generator=generator)}
        config = self.config()
        ids = torch.randint(5, 64, (4, 8), generator=generator)
        mask = torch.zeros(4, 8, dtype=torch.long)
        for row, length in enumerate(LENGTHS):
            start = 8 - length if left else 0
            mask[row, start : start + length] = 1
            if config.is_encoder_decoder:
                ids[row, start + length - 1] = config.eos_token_id
        ids[mask == 0] = config.pad_token_id
        return {"input_ids": ids, "attention_mask": mask}


FAMILIES = [Family(name, stem) for name, (stem, _) in CONFIGS.items()]


def randomize(module: torch.nn.Module) -> None:
    """Give every matrix N(0, 0.2)."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    """Every family in turn."""
    return request.param


@pytest.fixture
def get_family() -> Callable[[str], Family]:
    """Return a family by its name."""
    return {family.name: family for family in FAMILIES}.__getitem__


@pytest.fixture
def bert(get_family: Callable[[str], Family]) -> Any:
    """A tiny BERT with adapter methods and no head."""
    return get_family("bert").model()


@pytest.fixture
def batch(get_family: Callable[[str], Family]) -> dict[str, torch.Tensor]:
    """Input of the tiny BERT."""
    return get_family("bert").inputs()


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def golden() -> Path:
    """The folder of recorded cases, beside the repository or at ADAPTERHUB_SHARED."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    folder = Path(os.environ.get("ADAPTERHUB_SHARED", beside)) / "golden"
    if not folder.is_dir():
        pytest.skip("no recorded cases: set ADAPTERHUB_SHARED to the folder that holds golden/")
    return folder
