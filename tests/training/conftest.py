"""A tiny random BERT with a word tokenizer, a task made up for it, and trainers for both."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

WORDS = [
    "good",
    "great",
    "lovely",
    "bad",
    "awful",
    "dull",
    "film",
    "plot",
    "the",
    "a",
    "was",
    "very",
]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random base model with its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=32,
            initializer_range=0.1,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def task() -> Any:
    """Return a task that a bag of words solves."""
    from adapterhub.training.tasks import Examples, TextTask

    dice = random.Random(0)

    def examples(count: int) -> Examples:
        labels = [dice.randrange(2) for _ in range(count)]
        texts = [
            " ".join(["the", dice.choice(["film", "plot"]), "was"] + ["very"] * dice.randrange(4))
            + " "
            + dice.choice(["good", "great", "lovely"] if label else ["bad", "awful", "dull"])
            for label in labels
        ]
        return Examples(tuple(texts), tuple(labels))

    return TextTask("toy", ("no", "yes"), examples(64), examples(20), examples(20))


@pytest.fixture
def model(base: Path) -> Any:
    """Return a fresh model with heads and no adapters."""
    from adapterhub.training.base_models import load_base

    return load_base(base)[0]


@pytest.fixture
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)
