"""The two axes of the matrix: tiny models with random weights, and adapter configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers as tf

VOCABULARY = 60
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    **_NO_DROPOUT,
}
_TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "num_labels": 3}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
_LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    **_SPECIAL,
}
_DISTILBERT = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 40,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    **_TEXT,
}
_GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "vocab_size": VOCABULARY,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    **_SPECIAL,
}
_T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": VOCABULARY,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
}
_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "dropout": 0.0,
    "forced_eos_token_id": None,
}
_VIT = {"image_size": 8, "patch_size": 4, "num_labels": 3, **_BERT}


@dataclass(frozen=True)
class Family:
    """One column of the matrix.

    Attributes:
        name: the model type.
        make: builds a tiny model (any weights).
        kind: ``encoder``, ``decoder``, ``seq2seq`` or ``image``.
    """

    name: str
    make: Callable[[], Any]
    kind: str

    @property
    def generates(self) -> bool:
        return self.kind in ("decoder", "seq2seq")

    @property
    def call_options(self) -> dict[str, Any]:
        """Options of a plain forward call: no cache, where there could be one."""
        return {"use_cache": False} if self.generates else {}

    def build(self) -> Any:
        """Return a new model in eval mode, with the same weights each time, large enough to matter."""
        torch.manual_seed(0)
        model = self.make().eval()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
        return model

    def inputs(self, rows: int = 3) -> dict[str, torch.Tensor]:
        """Return a batch; the first row is padded: left for decoders, right elsewhere."""
        generator = torch.Generator().manual_seed(3)
        if self.kind == "image":
            return {"pixel_values": torch.randn(rows, 3, 8, 8, generator=generator)}
        ids = torch.randint(2, VOCABULARY, (rows, 6), generator=generator)
        mask = torch.ones_like(ids)
        padded = slice(0, 2) if self.kind == "decoder" else slice(4, 6)
        mask[0, padded], ids[0, padded] = 0, 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.kind == "seq2seq":
            inputs["decoder_input_ids"] = torch.randint(
                2, VOCABULARY, (rows, 5), generator=generator
            )
        return inputs

    def prompt(self, rows: int = 3) -> dict[str, torch.Tensor]:
        """Return what ``generate`` is given: :meth:`inputs` without the decoder's."""
        return {k: v for k, v in self.inputs(rows).items() if not k.startswith("decoder")}


def _make(model: str, config: str, options: dict[str, Any]) -> Any:
    return getattr(tf, model)(getattr(tf, config)(**options))


def _family(name: str, kind: str, model: str, config: str, options: dict[str, Any]) -> Family:
    return Family(name, partial(_make, model, config, options), kind)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _family("bert", "encoder", "BertForTokenClassification", "BertConfig", {**_BERT, **_TEXT}),
        _family(
            "roberta",
            "encoder",
            "RobertaForTokenClassification",
            "RobertaConfig",
            {**_BERT, **_TEXT, "pad_token_id": 0},
        ),
        _family(
            "xlm-roberta",
            "encoder",
            "XLMRobertaForTokenClassification",
            "XLMRobertaConfig",
            {**_BERT, **_TEXT, "pad_token_id": 0},
        ),
        _family(
            "distilbert",
            "encoder",
            "DistilBertForTokenClassification",
            "DistilBertConfig",
            _DISTILBERT,
        ),
        _family("gpt2", "decoder", "GPT2LMHeadModel", "GPT2Config", _GPT2),
        _family("llama", "decoder", "LlamaForCausalLM", "LlamaConfig", _LLAMA),
        _family("qwen3", "decoder", "Qwen3ForCausalLM", "Qwen3Config", {**_LLAMA, "head_dim": 8}),
        _family("t5", "seq2seq", "T5ForConditionalGeneration", "T5Config", _T5),
        _family("bart", "seq2seq", "BartForConditionalGeneration", "BartConfig", _BART),
        _family("vit", "image", "ViTForImageClassification", "ViTConfig", _VIT),
    )
}

_GATED_PREFIX = "prefix_tuning[prefix_length=2,bottleneck_size=6,use_gating=True]"
METHODS: dict[str, str] = {
    "seq_bn": "seq_bn[reduction_factor=4]",
    "double_seq_bn": "double_seq_bn[reduction_factor=4,cross_adapter=True]",
    "par_bn": "par_bn[reduction_factor=4,init_weights='bert']",
    "seq_bn_inv": "seq_bn_inv[reduction_factor=4]",
    "lora": "lora[r=4]",
    "lora_all": (
        "lora[r=4,attn_matrices=['q','k','v','o'],intermediate_lora=True,output_lora=True]"
    ),
    "lora_gated": "lora[r=4,use_gating=True]",
    "prefix_tuning": "prefix_tuning[prefix_length=3,bottleneck_size=6]",
    "prefix_tuning_flat": "prefix_tuning_flat[prefix_length=3]",
    "unipelt": f"{_GATED_PREFIX}|seq_bn[reduction_factor=4,use_gating=True]|lora[r=4,use_gating=True]",
    "mam": "prefix_tuning[prefix_length=2,bottleneck_size=6]|par_bn[reduction_factor=4]",
}
#: A gate is the mean over the positions of one call: in a cached decoding step it sees one position,
#: and it sees padding. Where the rule compares such calls, these methods have no answer to be right about.
GATED = ("lora_gated", "unipelt")

GENERATING = [name for name, family in FAMILIES.items() if family.generates]
CELLS = [(family, method) for family in FAMILIES for method in METHODS]
UNGATED_GENERATING = [(f, m) for f, m in CELLS if f in GENERATING and m not in GATED]
