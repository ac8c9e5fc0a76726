"""``python -m benchmarks.compositions``: write ``docs/compositions.md``, which method works in which block.

Every cell is tried: three adapters on a tiny model, activated in the block and run. A cell that has no
meaning is filled with the number of the error that says why.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from rich.progress import track

import adapterhub
from adapterhub import (
    AdapterHubError,
    Average,
    BatchSplit,
    Fuse,
    MultiTask,
    Parallel,
    Route,
    Split,
    Stack,
)

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 60,
}
MODELS = {
    "bert (encoder)": lambda: tf.BertModel(tf.BertConfig(**ENCODER)),
    "llama (decoder, grouped heads)": lambda: tf.LlamaModel(
        tf.LlamaConfig(**ENCODER, num_key_value_heads=2)
    ),
    "mixtral (decoder, experts)": lambda: tf.MixtralModel(
        tf.MixtralConfig(**ENCODER, num_local_experts=4, num_key_value_heads=4)
    ),
    "t5 (encoder-decoder)": lambda: tf.T5Model(
        tf.T5Config(d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4, vocab_size=60)
    ),
    "vit (images)": lambda: tf.ViTModel(
        tf.ViTConfig(
            image_size=8,
            patch_size=4,
            **{k: v for k, v in ENCODER.items() if k != "vocab_size"},
        )
    ),
}
METHODS = {
    "seq_bn": "seq_bn[reduction_factor=4]",
    "par_bn": "par_bn",
    "seq_bn_inv": "seq_bn_inv[reduction_factor=4]",
    "compacter": "compacter[reduction_factor=4]",
    "lora": "lora",
    "lora (pissa)": "lora[init_weights='pissa']",
    "lora (embeddings)": "lora[embedding_lora=True,selfattn_lora=False]",
    "lora (experts)": "lora[expert_matrices=['gate','up','down'],selfattn_lora=False]",
    "ia3": "ia3",
    "dora": "dora",
    "vera": "vera[r=4]",
    "mtl_lora": "mtl_lora[r=4]",
    "prefix_tuning": "prefix_tuning[prefix_length=3,bottleneck_size=6]",
    "prompt_tuning": "prompt_tuning[prompt_length=3]",
    "loreft": "loreft[r=2]",
    "bitfit": "bitfit",
    "ln_tuning": "ln_tuning",
    "mam": "prefix_tuning[prefix_length=3,bottleneck_size=6]|par_bn",
}
BLOCKS: dict[str, Any] = {
    "Stack": lambda length: Stack("a", "b"),
    "Fuse": lambda length: Fuse("a", "b"),
    "Split": lambda length: Split("a", "b", splits=[2, length - 2]),
    "BatchSplit": lambda length: BatchSplit("a", None, "b", batch_sizes=1),
    "Parallel": lambda length: Parallel("a", "b", "c"),
    "Average": lambda length: Average("a", "b", "c"),
    "Route": lambda length: Route("a", "b", "c"),
    "MultiTask": lambda length: MultiTask("a", "b", "c"),
    "Stack(c, Parallel(a, Average))": lambda length: Stack("c", Parallel("a", Average("a", "b"))),
}


def inputs_for(name: str) -> tuple[dict[str, torch.Tensor], int]:
    """Return a batch of three and its length."""
    if name.startswith("vit"):
        return {"pixel_values": torch.randn(3, 3, 8, 8)}, 5
    ids = torch.randint(2, 60, (3, 6))
    return (
        {"input_ids": ids, "decoder_input_ids": ids}
        if name.startswith("t5")
        else {"input_ids": ids}
    ), 6


def attempt(model: Any, block: str, inputs: dict[str, torch.Tensor], length: int) -> str:
    """Return "yes", or the error that one gets."""
    options: dict[str, Any] = {}
    if block in ("Route", "MultiTask"):
        options["adapter_rows"] = [0, 2, 1]
    try:
        if block == "Fuse":
            model.add_adapter_fusion(["a", "b"])
        model.set_active_adapters(BLOCKS[block](length))
        with torch.no_grad():
            model(**inputs, **options)
    except AdapterHubError as error:
        return str(error)
    finally:
        model.set_active_adapters(None)
    return "yes"


def reason(text: str) -> str:
    """Return an error without the names of layers and adapters, so that equal reasons are one."""
    text = re.sub(r"(encoder|decoder|vision)\.(\d+)\.", "LAYER.", text)
    text = re.sub(r"(encoder|decoder)\.(?=prompt|embed|tokens)", "", text)
    text = re.sub(r"^[A-Z]\w+\(.*\): (?=stacked|a prompt)", "", text)
    text = re.sub(r" (at|in) '\w+'; `adapterhub.*", ".", text)
    return re.sub(r"\s+", " ", re.sub(r"\(\d+ -> \d+\)", "(n -> m)", text)).strip()


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/compositions.md"))
    options = parser.parse_args()
    tf.logging.set_verbosity_error()
    lines = [
        "# Methods and compositions",
        "",
        "Written by `python -m benchmarks.compositions`, which tries every cell. A number stands for the",
        "reason below, which is the error that activation (or the first forward pass) gives; nothing is",
        "skipped silently.",
        "",
    ]
    reasons: list[str] = []
    for name, make in track(list(MODELS.items()), description="composing"):
        torch.manual_seed(0)
        inputs, length = inputs_for(name)
        lines += [
            f"## {name}",
            "",
            "| | " + " | ".join(BLOCKS) + " |",
            "|---" * (len(BLOCKS) + 1) + "|",
        ]
        for method, config in METHODS.items():
            model = adapterhub.init(make().eval())
            absent = None
            try:
                for adapter in ("a", "b", "c"):
                    model.add_adapter(adapter, config=config)
            except AdapterHubError as error:
                absent = str(error)
            cells = []
            for block in BLOCKS:
                found = absent or attempt(model, block, inputs, length)
                if found != "yes":
                    found = reason(found)
                    if found not in reasons:
                        reasons.append(found)
                    found = f"[{reasons.index(found) + 1}]"
                cells.append(found)
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## Reasons", ""]
    lines += [f"{number}. {text}" for number, text in enumerate(reasons, start=1)]
    options.output.write_text("\n".join(lines) + "\n")
    print(f"{options.output}: {len(reasons)} reasons")


if __name__ == "__main__":
    main()
