"""Base models small enough to run in a test, with tokenizers and adapters, as folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.tiny import bert, llama, randomize

WORDS = ["a", "the", "film", "is", "was", "good", "bad", "great", "dull", "in", "of", "it"]
WORDS += ["Berlin", "London", "Ada", "flew", "to", "and", ",", ".", "!"]
BERT, LLAMA = "tiny/bert", "tiny/llama"
LABELS = ["negative", "neutral", "positive"]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def save_tokenizer(folder: Path) -> None:
    """Write a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="."
    )
    fast.save_pretrained(folder)


def make_models(folder: Path) -> Path:
    """Write a BERT and a Llama, and the ``models.yaml`` that names them."""
    for name, model in (("bert", bert()), ("llama", llama())):
        model.save_pretrained(folder / name)
        save_tokenizer(folder / name)
    (folder / "models.yaml").write_text(
        f"models:\n- {{id: {BERT}, path: bert, aliases: [Tiny/Old]}}\n- {{id: {LLAMA}, path: llama}}\n"
    )
    return folder


def make_adapters(models: Path, folder: Path) -> dict[str, Path]:
    """Write adapters of several kinds for the two models; return their folders by name."""
    import adapterhub
    from adapterhub import AutoAdapterModel

    model = AutoAdapterModel.from_pretrained(models / "bert")
    plan: dict[str, tuple[str, str]] = {
        "lora-class": ("lora", "class"),
        "bn-class": ("seq_bn[reduction_factor=4]", "class"),
        "ia3-tags": ("ia3", "tags"),
        "bn-number": ("par_bn[reduction_factor=4]", "number"),
        "headless": ("lora", ""),
    }
    for name, (config, head) in plan.items():
        model.add_adapter(name, config=config)
        if head == "class":
            model.add_classification_head(name, num_labels=3, id2label=dict(enumerate(LABELS)))
        elif head == "tags":
            model.add_tagging_head(name, num_labels=5, id2label=dict(enumerate(TAGS)))
        elif head == "number":
            model.add_classification_head(name, num_labels=1)
        _save(model, name, folder, BERT)
    causal = llama()
    adapterhub.init(causal)
    for name in ("llama-one", "llama-two"):
        causal.add_adapter(name, config="lora")
        _save(causal, name, folder, LLAMA)
    return {path.name: path for path in folder.iterdir()}


def _save(model: Any, name: str, folder: Path, base: str) -> None:
    torch.manual_seed(sum(map(ord, name)))
    randomize(model, name, std=0.3)
    with torch.no_grad():
        for parameter in model.adapter_handle.iter_parameters(name):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_adapter(str(folder / name), name)
    for file in ("adapter_config.json", "head_config.json"):
        path = folder / name / file
        if path.is_file():
            path.write_text(json.dumps({**json.loads(path.read_text()), "model_name": base}))
