"""Replay a recorded case: rebuild it from its files, run one forward pass, compare tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

import adapterhub
from adapterhub.composition import BLOCKS

#: Adapter methods, heads and operations that later work brings; cases with them are not replayed yet.
LATER = ("mtl_mtl",)
FAMILIES = (
    "albert",
    "bart",
    "beit",
    "bert",
    "bert-generation",
    "clip",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "encoder-decoder",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gptj",
    "llama",
    "mbart",
    "mistral",
    "modernbert",
    "mt5",
    "phi",
    "plbart",
    "qwen2",
    "qwen3",
    "roberta",
    "t5",
    "vit",
    "whisper",
    "xlm-roberta",
    "xmod",
)


def block(tree: Any) -> Any:
    """Return the composition that a case's JSON describes."""
    if tree is None or isinstance(tree, str):
        return tree
    (kind,) = [key for key in tree if key in BLOCKS]
    options = {key: value for key, value in tree.items() if key != kind}
    return BLOCKS[kind](*(block(child) for child in tree[kind]), **options)


def in_scope(entry: dict[str, Any]) -> bool:
    """Whether a case uses only what is there by now."""
    name = entry["id"].lower()
    return entry["family"] in FAMILIES and not any(word in name for word in LATER)


def load_model(root: Path, case: dict[str, Any]) -> Any:
    """Return the base model of a case, with adapters' methods."""
    wanted, made = case["load_class"], case["model"]
    options: dict[str, Any] = {"dtype": torch.float32}
    if made.get("load_attn_implementation"):
        options["attn_implementation"] = made["load_attn_implementation"]
    if wanted["class"] == made["class"]:
        options.update(made.get("config_overrides") or {})
    folder = root / made["dir"]
    if wanted["library"] == "adapters":
        model = getattr(adapterhub, wanted["class"]).from_pretrained(folder, **options)
    else:
        kind = getattr(transformers, wanted["class"])
        model = adapterhub.init(kind.from_pretrained(folder, **options))
    if model.adapter_handle.own_adapters():
        # The recording library takes the adapters that a model was published with out of it.
        model.bypass_own_adapters()
    return model.eval()


def said(case: dict[str, Any], step: dict[str, Any]) -> Any:
    """Return the configuration that a case says an adapter was recorded with, if it is one of ReFT.

    The recording library's files of ReFT adapters leave out whether the projection is subtracted (DiReFT) or
    not, and the outputs are those from before saving; so the configuration is passed as a user would do.
    """
    made = (case.get("adapters") or {}).get(step["dir"].replace("__", "/").rpartition("/")[2]) or {}
    spec = made.get("spec")
    if not isinstance(spec, dict) or "kwargs" not in spec:
        return None
    config = getattr(adapterhub, made["config_class"])(**spec["kwargs"])
    return config if isinstance(config, adapterhub.ReftConfig) else None


def run_step(
    model: Any, step: dict[str, Any], folder: Path, case: dict[str, Any] | None = None
) -> None:
    """Run one recorded operation (of *case*, if it matters what that says)."""
    options = dict(step)
    name = options.pop("op")
    if name == "load_adapter" and (config := said(case or {}, step)) is not None:
        options["config"] = config
    if name == "set_active_adapters":
        model.set_active_adapters(block(options["setup"]), skip_layers=options.get("skip_layers"))
    elif name == "set_active_head":
        model.active_head = options["head"]
    elif name == "reset_adapter":
        model.reset_adapter()
    elif name in ("merge_adapter", "eject_prefix_tuning"):
        getattr(model, name)(options["name"])
    elif name == "average_adapter":
        model.average_adapter(options.pop("name"), options.pop("adapters"), **options)
    elif name == "average_head":
        model.average_head(options["name"], options["heads"], weights=options["weights"])
    elif name == "share_parameters":
        model.share_parameters(options["adapters"])
    else:
        getattr(model, name)(folder / options.pop("dir"), **options)


def outputs_of(
    model: Any, case: dict[str, Any], inputs: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Run the recorded call and return its tensors under the recorded names."""
    forward = case["forward"]
    with torch.no_grad():
        if forward["call"] != "forward":
            kept = {k: v for k, v in inputs.items() if not k.startswith("decoder")}
            tokens = model.generate(
                **kept, max_new_tokens=6, min_new_tokens=6, do_sample=False, num_beams=1
            )
            return {"sequences": tokens}
        if case.get("context") is not None:
            with adapterhub.AdapterSetup(block(case["context"])):
                return flatten(model(**inputs, **forward["kwargs"]))
        if case.get("active"):
            skip = [s.get("skip_layers") for s in case["run"] if s["op"] == "set_active_adapters"]
            if case.get("derived"):
                model.set_active_adapters(
                    block(case["active"]), skip_layers=skip[-1] if skip else None
                )
        return flatten(model(**inputs, **forward["kwargs"]))


def flatten(output: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return every tensor of a model output by its path."""
    if isinstance(output, torch.Tensor):
        return {prefix: output}
    result: dict[str, torch.Tensor] = {}
    if hasattr(output, "head_outputs"):
        for number, head in enumerate(output.head_outputs):
            result.update(flatten(head, f"head_{number}"))
        if output.loss is not None:
            result["loss"] = output.loss
        return result
    if isinstance(output, dict):
        for key, value in output.items():
            result.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    elif isinstance(output, (tuple, list)):
        for key, value in enumerate(output):
            result.update(flatten(value, f"{prefix}.{key}"))
    elif output is not None and hasattr(output, "__array__"):
        result[prefix] = torch.as_tensor(output).float()
    return result


def replay(root: Path, identifier: str) -> float:
    """Replay a case; return the largest difference, infinite where a tensor lacks or has another shape."""
    folder = root / "cases" / identifier
    case = json.loads((folder / "case.json").read_text())
    torch.manual_seed(0)
    model = load_model(root, case)
    for step in [*case["load"], *case["run"]]:
        run_step(model, step, folder, case)
    model.eval()
    inputs = load_file(root / case["forward"]["inputs"])
    intended = folder / "outputs_intended.safetensors"
    expected = load_file(intended if intended.exists() else folder / "outputs.safetensors")
    found = outputs_of(model, case, inputs)
    worst = 0.0
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            return float("inf")
        if value.numel():
            worst = max(worst, float((found[name].double() - value.double()).abs().max()))
    return worst
