"""``python -m benchmarks.peer --python PEER``: what we save, loaded by the ``adapters`` library.

PEER is the interpreter of a virtual environment with ``adapters==1.3.0`` and the transformers version that
it pins. For every method that the library knows, a tiny model gets a random adapter here, is run, and the
adapter is saved in both file formats; the other interpreter loads model and adapter and runs the same
inputs. The table shows the largest difference of the outputs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

import adapterhub

METHODS = {
    "seq_bn": "seq_bn[reduction_factor=4]",
    "double_seq_bn": "double_seq_bn[reduction_factor=4]",
    "par_bn": "par_bn",
    "scaled_par_bn": "scaled_par_bn",
    "seq_bn_inv": "seq_bn_inv[reduction_factor=4]",
    "adapter_plus": "adapter_plus[reduction_factor=4,stochastic_depth=0.0]",
    "compacter": "compacter[reduction_factor=4]",
    "compacter++": "compacter++[reduction_factor=4]",
    "lora": "lora[intermediate_lora=True,output_lora=True,alpha=16]",
    "lora gated": "lora[use_gating=True]",
    "ia3": "ia3",
    "dora": "dora",
    "vera": "vera[r=4]",
    "dvora": "dvora[r=4]",
    "mtl_lora": "mtl_lora[r=4]",
    "prefix_tuning": "prefix_tuning[prefix_length=3,bottleneck_size=6]",
    "prefix_tuning_flat": "prefix_tuning_flat[prefix_length=3]",
    "prompt_tuning": "prompt_tuning[prompt_length=3]",
    "loreft": "loreft[r=2]",
    "noreft": "noreft[r=2]",
    "mam": "prefix_tuning[prefix_length=2,bottleneck_size=6]|par_bn",
    "unipelt": (
        "prefix_tuning[prefix_length=2,bottleneck_size=6,use_gating=True]"
        "|seq_bn[use_gating=True]|lora[use_gating=True]"
    ),
}
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
MODELS = {
    "bert": lambda: tf.BertConfig(**ENCODER),
    "roberta": lambda: tf.RobertaConfig(**ENCODER),
    "llama": lambda: tf.LlamaConfig(**ENCODER, num_key_value_heads=4),
    "gpt2": lambda: tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=40),
    "t5": lambda: tf.T5Config(
        d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4, vocab_size=60
    ),
}
#: What the library refuses to add to these models (its own limits).
REFUSED = {
    "llama": {"prompt_tuning"},
    "gpt2": {"prompt_tuning", "dora", "dvora", "vera", "mtl_lora"},
    "t5": {"prompt_tuning"},
}

#: Methods whose safetensors files leave out what only that library needs (full matrices in place of VeRA's
#: vectors, LoReFT's identity rotation); their ``.bin`` files have it.
COMPACT = {"vera", "dvora", "loreft"}

CHILD = """
import json, sys, torch, warnings
warnings.filterwarnings("ignore")
import transformers
transformers.logging.set_verbosity_error()
import adapters
from safetensors.torch import load_file
for line in sys.stdin:
    job = json.loads(line)
    try:
        model = getattr(adapters, job["class"]).from_pretrained(job["model"], attn_implementation="eager")
        name = model.load_adapter(job["adapter"], use_safetensors=job["safetensors"], set_active=True)
        model.eval()
        with torch.no_grad():
            found = model(**load_file(job["inputs"])).last_hidden_state
        expected = load_file(job["outputs"])["out"]
        print("RESULT", float((found - expected).abs().max()), flush=True)
    except Exception as error:
        print("RESULT", repr(error)[:300].replace("\\n", " "), flush=True)
"""


def cases(folder: Path, only: Sequence[str] = ()) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Save models, adapters, inputs and outputs; yield (family, method, format, job).

    Args:
        only: methods; empty: all.
    """
    for family, config in MODELS.items():
        torch.manual_seed(0)
        settings = config()
        name = f"{type(settings).__name__.removesuffix('Config')}AdapterModel"
        model = getattr(adapterhub, name)(settings).eval()
        model.save_pretrained(folder / family)
        model = getattr(adapterhub, name).from_pretrained(
            folder / family, attn_implementation="eager"
        )
        inputs = {"input_ids": torch.randint(2, 60, (3, 6))}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["attention_mask"][0, 4:] = 0
        if family == "t5":
            inputs["decoder_input_ids"] = torch.randint(2, 60, (3, 5))
        save_file(inputs, folder / family / "inputs.safetensors")
        for method, config_text in METHODS.items():
            if method in REFUSED.get(family, ()) or (only and method not in only):
                continue
            model.add_adapter("a", config=config_text, overwrite_ok=True)
            signs = {id(m.original) for m in model.modules() if hasattr(m, "original")}
            with torch.no_grad():
                for parameter in model.adapter_handle.iter_parameters("a"):
                    if id(parameter) in signs:
                        parameter.add_(torch.randn_like(parameter).tril(-1) * 0.3)
                    else:
                        parameter.add_(torch.randn_like(parameter) * 0.3)
            model.set_active_adapters("a")
            model.eval()
            with torch.no_grad():
                out = model(**inputs).last_hidden_state
            place = folder / family / method
            place.mkdir()
            save_file({"out": out.contiguous()}, place / "out.safetensors")
            for kind, safe in (("safetensors", True), (".bin", False)):
                if safe and method in COMPACT:
                    continue
                model.save_adapter(place / kind, "a", use_safetensors=safe)
                yield (
                    family,
                    method,
                    kind,
                    {
                        "class": name,
                        "model": str(folder / family),
                        "adapter": str(place / kind),
                        "safetensors": safe,
                        "inputs": str(folder / family / "inputs.safetensors"),
                        "outputs": str(place / "out.safetensors"),
                    },
                )


def main() -> int:
    """Run all cases; return the number of those that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter that has adapters 1.3.0")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--method", action="append", default=[], choices=METHODS, help="only this one"
    )
    options = parser.parse_args()
    tf.logging.set_verbosity_error()
    results: dict[str, dict[str, str]] = {}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [options.python, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        for family, method, kind, job in cases(Path(folder), options.method):
            child.stdin.write(json.dumps(job) + "\n")
            child.stdin.flush()
            line = next(text for text in child.stdout if text.startswith("RESULT "))
            found = line.removeprefix("RESULT ").strip()
            try:
                good = float(found) <= 1e-5
                found = f"{float(found):.1e}"
            except ValueError:
                good = False
            wrong += not good
            results.setdefault(f"{method} ({kind})", {})[family] = found
            print(f"{family} {method} {kind}: {found}", file=sys.stderr)
        child.stdin.close()
        child.wait()
    table = Table("method", *MODELS, title="largest difference of outputs in adapters 1.3.0")
    for method, found in results.items():
        table.add_row(method, *(found.get(family, "-") for family in MODELS))
    Console().print(table)
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"{wrong} of {sum(len(found) for found in results.values())} cases differ")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
