"""A tiny model of every family in the table, with inputs and what it can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as tf

_ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_DECODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}


@dataclass(frozen=True)
class Family:
    """How to make a tiny model, and whether it generates, and what it reads."""

    name: str
    make: Callable[[], Any]
    generates: bool = False
    encoder_decoder: bool = False
    image: bool = False

    def model(self) -> Any:
        """Return the model, the same weights each time, in eval mode; weights large enough to matter."""
        torch.manual_seed(0)
        model = self.make().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.2)
        return model

    def inputs(self, rows: int = 3) -> dict[str, torch.Tensor]:
        """Return a batch, with padding where there are tokens."""
        generator = torch.Generator().manual_seed(3)
        if self.image:
            return {"pixel_values": torch.randn(rows, 3, 8, 8, generator=generator)}
        ids = torch.randint(2, 60, (rows, 6), generator=generator)
        mask = torch.ones_like(ids)
        if self.generates and not self.encoder_decoder:
            mask[0, :2] = 0  # left padding, as for generation
        else:
            mask[0, 4:] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.encoder_decoder:
            inputs["decoder_input_ids"] = torch.randint(2, 60, (rows, 5), generator=generator)
        return inputs


def _encoder(kind: str, **extra: Any) -> Callable[[], Any]:
    return lambda: getattr(tf, f"{kind}Model")(getattr(tf, f"{kind}Config")(**_ENCODER, **extra))


def _decoder(kind: str, **extra: Any) -> Callable[[], Any]:
    return lambda: getattr(tf, f"{kind}ForCausalLM")(
        getattr(tf, f"{kind}Config")(**_DECODER, **extra)
    )


def _distilbert() -> Any:
    return tf.DistilBertModel(
        tf.DistilBertConfig(
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=40,
            vocab_size=60,
            max_position_embeddings=40,
            dropout=0.0,
            attention_dropout=0.0,
        )
    )


def _gpt2() -> Any:
    return tf.GPT2LMHeadModel(
        tf.GPT2Config(
            n_embd=32,
            n_layer=2,
            n_head=4,
            vocab_size=60,
            n_positions=64,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=1,
        )
    )


def _t5() -> Any:
    return tf.T5ForConditionalGeneration(
        tf.T5Config(
            d_model=32,
            d_kv=8,
            d_ff=40,
            num_layers=2,
            num_heads=4,
            vocab_size=60,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    )


def _bart() -> Any:
    return tf.BartForConditionalGeneration(
        tf.BartConfig(
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=40,
            decoder_ffn_dim=40,
            vocab_size=60,
            max_position_embeddings=64,
            dropout=0.0,
            forced_eos_token_id=None,
        )
    )


def _vit() -> Any:
    options = {
        k: v for k, v in _ENCODER.items() if k not in ("vocab_size", "max_position_embeddings")
    }
    return tf.ViTModel(tf.ViTConfig(image_size=8, patch_size=4, **options))


FAMILIES = {
    family.name: family
    for family in (
        Family("bert", _encoder("Bert")),
        Family("roberta", _encoder("Roberta", pad_token_id=0)),
        Family("xlm-roberta", _encoder("XLMRoberta", pad_token_id=0)),
        Family("distilbert", _distilbert),
        Family("gpt2", _gpt2, generates=True),
        Family("llama", _decoder("Llama"), generates=True),
        Family("qwen3", _decoder("Qwen3", head_dim=8), generates=True),
        Family("t5", _t5, generates=True, encoder_decoder=True),
        Family("bart", _bart, generates=True, encoder_decoder=True),
        Family("vit", _vit, image=True),
    )
}

METHODS = {
    "seq_bn": "seq_bn[reduction_factor=4]",
    "double_seq_bn": "double_seq_bn[reduction_factor=4,cross_adapter=True]",
    "par_bn": "par_bn[init_weights='bert']",
    "seq_bn_inv": "seq_bn_inv[reduction_factor=4]",
    "adapter_plus": "adapter_plus[reduction_factor=4,stochastic_depth=0.0]",
    "lora": "lora[init_weights='bert']",
    "lora_all": (
        "lora[init_weights='bert',attn_matrices=['q','k','v','o'],"
        "intermediate_lora=True,output_lora=True]"
    ),
    "lora_gated": "lora[init_weights='bert',use_gating=True]",
    "lora_pissa": "lora[init_weights='pissa',r=2]",
    "ia3": "ia3",
    "dora": "dora[init_weights='bert',alpha=4]",
    "vera": "vera[r=4]",
    "dvora": "dvora[r=4]",
    "mtl_lora": "mtl_lora[r=4,init_weights='bert',n_up_projection=2]",
    "ln_tuning": "ln_tuning",
    "compacter": "compacter[reduction_factor=4]",
    "loreft": "loreft[r=2,suffix_positions=1,dropout=0.0]",
    "direft": "direft[r=2,prefix_positions=2,dropout=0.0]",
    "prompt_tuning": "prompt_tuning[prompt_length=3]",
    "prefix_tuning": "prefix_tuning[prefix_length=3,bottleneck_size=6]",
    "prefix_tuning_flat": "prefix_tuning_flat[prefix_length=3]",
    "mam": "prefix_tuning[prefix_length=2,bottleneck_size=6]|par_bn[init_weights='bert']",
    "unipelt": (
        "prefix_tuning[prefix_length=2,bottleneck_size=6,use_gating=True]"
        "|seq_bn[reduction_factor=4,use_gating=True]|lora[init_weights='bert',use_gating=True]"
    ),
}
#: A gate is a mean over the positions of one call, so by its definition it sees less in a cached step.
GATED = ("lora_gated", "unipelt")


def randomize(model: Any, *names: str) -> None:
    """Give the adapters *names* of an initialised model random weights, the same ones each time."""
    generator = torch.Generator().manual_seed(5)
    signs = {id(m.original) for m in model.modules() if hasattr(m, "original")}
    for name in names:
        for parameter in model.adapter_handle.iter_parameters(name):
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
                if id(parameter) in signs:  # the diagonal of an orthogonal map holds signs
                    parameter.diagonal().fill_(1.0)
