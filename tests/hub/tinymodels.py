"""Base models small enough to run in a test, with tokenizers and adapters, as folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.tiny import bert, llama, randomize, t5, vit

WORDS = ["a", "the", "film", "is", "was", "good", "bad", "great", "dull", "in", "of", "it"]
WORDS += ["Berlin", "London", "Ada", "flew", "to", "and", ",", ".", "!"]
BERT, LLAMA, T5, VIT = "tiny/bert", "tiny/llama", "tiny/t5", "tiny/vit"
LABELS = ["negative", "neutral", "positive"]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def save_tokenizer(folder: Path) -> None:
    """Write a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *WORDS, "[MASK]"]
    words += [f"w{number}" for number in range(len(words), 60)]  # so that each output is a word
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        eos_token=".",
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


def make_more_models(folder: Path) -> Path:
    """Write a T5 and a small ViT, and a ``models.yaml`` that names them."""
    for name, model in (("t5", t5()), ("vit", vit())):
        model.save_pretrained(folder / name)
    save_tokenizer(folder / "t5")
    (folder / "vit" / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}'
    )
    (folder / "models.yaml").write_text(
        f"models:\n- {{id: {T5}, path: t5}}\n- {{id: {VIT}, path: vit}}\n"
    )
    return folder


#: Adapters with heads of all further types: name to base model, configuration, head.
MORE: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "bert-answer": ("bert", "lora", "qa", {}),
    "bert-answer-two": ("bert", "seq_bn[reduction_factor=4]", "qa", {}),
    "bert-choice": ("bert", "lora", "multiple_choice", {"num_choices": 3}),
    "bert-parse": (
        "bert",
        "ia3",
        "dependency_parsing",
        {"num_labels": 3, "id2label": ["nsubj", "obj", "det"]},
    ),
    "bert-blank": ("bert", "lora", "masked_lm", {}),
    "bert-several": ("bert", "lora", "classification", {"num_labels": 3, "multilabel": True}),
    "llama-own": ("llama", "lora", "causal_lm", {}),
    "t5-class": ("t5", "lora", "classification", {"num_labels": 3}),
    "t5-own": ("t5", "lora", "seq2seq_lm", {}),
    "vit-class": ("vit", "lora", "image_classification", {"num_labels": 3}),
}


def make_more_adapters(models: Path, more: Path, folder: Path) -> dict[str, Path]:
    """Write adapters of all further kinds; return their folders by name.

    Args:
        models: of :func:`make_models`. more: of :func:`make_more_models`.
    """
    import adapterhub
    from adapterhub import AutoAdapterModel

    ids = {"bert": BERT, "llama": LLAMA, "t5": T5, "vit": VIT}
    loaded: dict[str, Any] = {}
    for name, (base, config, head, options) in MORE.items():
        if base not in loaded:
            place = models if (models / base).is_dir() else more
            loaded[base] = AutoAdapterModel.from_pretrained(place / base)
        model = loaded[base]
        model.add_adapter(name, config=config)
        torch.manual_seed(len(name))
        getattr(model, f"add_{head}_head")(name, **options)
        if head == "dependency_parsing":  # whose weights begin at zero
            for parameter in model.heads[name].parameters():
                torch.nn.init.normal_(parameter)
        _save(model, name, folder, ids[base])
    plain = t5()
    adapterhub.init(plain)
    for name in ("t5-one", "t5-two"):
        plain.add_adapter(name, config="lora")
        _save(plain, name, folder, T5)
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
