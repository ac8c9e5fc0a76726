"""The checks of single files, from cheap to dear; a file that fails one is not read further."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.inspection import (
    CONFIG_FILE,
    HEAD_CONFIG_FILE,
    MAX_CONFIG_BYTES,
    info_problems,
    read_front_matter,
)
from adapterhub.hub.licenses import normalize_license
from adapterhub.hub.names import member_path_problems, model_id_problems
from adapterhub.hub.numbers import measure
from adapterhub.hub.sniff import sniff
from adapterhub.hub.tensors import TensorFile, TensorInfo, read_header, strict_json
from adapterhub.hub.verify.cardtexts import language_warnings, link_warnings, result_warnings
from adapterhub.hub.verify.readme import excerpt
from adapterhub.hub.verify.results import Result, result

#: The version of every check of this file. The names are the order in which they run.
VERSIONS = {"name": 1, "content": 1, "header": 1, "numbers": 2, "config": 1, "card": 3}

#: Settings of PEFT with a known meaning, and the range in which they make sense.
_PEFT_RANGES = {
    "r": (1, 65536),
    "lora_alpha": (0, 1e6),
    "lora_dropout": (0, 1),
    "num_virtual_tokens": (1, 65536),
}
_SHOWN_TENSORS = 2000


def examine(path: Path, name: str) -> list[Result]:
    """Check the file at *path*, which is to be called *name* in a repository.

    Returns:
        The results of the checks that apply, the last one being the first that failed, if one did.
    """
    results = [_result("name", member_path_problems(name))]
    if results[-1].failed:
        return results
    kind, problems = sniff(path, name)
    results.append(_result("content", problems, kind=kind))
    if results[-1].failed:
        return results
    base = name.rpartition("/")[2]
    if kind == "safetensors":
        header = read_header(path)
        problems = [f"{name} {line}" for line in header.problems]
        results.append(_result("header", problems, **_tensor_data(header)))
        if not problems:
            results.append(_check_numbers(path, name, header.tensors))
    elif kind == "json" and base in (CONFIG_FILE, HEAD_CONFIG_FILE):
        results.append(_check_config(path, name))
    elif kind == "text" and name == "README.md":
        results.append(_check_card(path))
    return results


def _result(
    check: str, problems: list[str], warnings: list[str] | None = None, **data: Any
) -> Result:
    return result(check, VERSIONS[check], problems, warnings or (), **data)


def _check_numbers(path: Path, name: str, tensors: list[TensorInfo]) -> Result:
    found = measure(path, tensors)
    return _result(
        "numbers",
        [f"{name} {line}" for line in found.problems()],
        [f"{name} {line}" for line in found.warnings(len(tensors))],
        norms=found.norms,
        shapes=found.shapes,
        largest=found.largest,
        zero=len(found.zero),
    )


def _tensor_data(header: TensorFile) -> dict[str, Any]:
    """Return what the adapter's facts need of a header; long lists are cut, sums are not."""
    by_type: Counter[str] = Counter()
    for tensor in header.tensors:
        by_type[tensor.dtype] += math.prod(tensor.shape)
    shown = sorted(header.tensors, key=lambda tensor: tensor.begin)[:_SHOWN_TENSORS]
    return {
        "parameters": dict(by_type),
        "count": len(header.tensors),
        "tensors": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in shown],
        "ranks": sorted({rank for rank in map(_rank, header.tensors) if rank}),
    }


def _rank(tensor: TensorInfo) -> int:
    """Return the rank that the first matrix of a low-rank pair tells, else 0."""
    words = tensor.name.split(".")
    if len(tensor.shape) >= 2 and "lora_A" in words:
        return tensor.shape[0]
    return 0


def _check_config(path: Path, name: str) -> Result:
    """Check ``adapter_config.json`` or ``head_config.json``, of this format or of PEFT."""
    if path.stat().st_size > MAX_CONFIG_BYTES:
        return _result("config", [f"{name} is larger than {MAX_CONFIG_BYTES >> 20} MiB"])
    info = strict_json(path.read_bytes())
    if not isinstance(info, dict):
        return _result("config", [f"{name} is not a JSON object"])
    if name.rpartition("/")[2] == HEAD_CONFIG_FILE:
        # (null: the head of a class such as LlamaForCausalLM, which has no settings of its own.)
        right = isinstance(info.get("config"), dict) or (
            "config" in info and info["config"] is None
        )
        problems = [] if right else ["'config' must be an object or null"]
    elif "peft_type" in info:
        problems = _peft_problems(info)
    else:
        problems = info_problems(info)
        if isinstance(info.get("model_name"), str) and info["model_name"]:
            problems += model_id_problems(info["model_name"])
    if info.get("auto_mapping") and isinstance(info["auto_mapping"], dict):
        module = str(info["auto_mapping"].get("parent_library") or "")
        if not module.startswith(("transformers.", "diffusers.")):
            problems.append("auto_mapping names code outside of transformers, which is refused")
    return _result("config", [f"{name}: {line}" for line in problems], info=info)


def _peft_problems(info: dict[str, Any]) -> list[str]:
    problems = []
    if not isinstance(info["peft_type"], str) or not info["peft_type"].replace("_", "").isalnum():
        problems.append("'peft_type' must be the name of a method, e.g. LORA")
    for key, (low, high) in _PEFT_RANGES.items():
        value = info.get(key)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            problems.append(f"{key} is {value!r:.60}; expected {low:g} to {high:g}")
    base = info.get("base_model_name_or_path")
    if base is not None:
        problems += (
            model_id_problems(base)
            if isinstance(base, str)
            else ["base_model_name_or_path must be text"]
        )
    return problems


def _check_card(path: Path) -> Result:
    text = path.read_text(encoding="utf-8-sig")
    problems, warnings, front = card_problems(text)
    return _result("card", problems, warnings, front=front, about=excerpt(text))


def card_problems(text: str) -> tuple[list[str], list[str], dict[str, Any]]:
    """Return what is wrong and what is odd in a README's front matter, and the front matter itself."""
    try:
        front = read_front_matter(text)
    except HubError as error:
        return [f"README.md: the block between the --- lines: {error}"], [], {}
    problems: list[str] = []
    warnings: list[str] = []
    license_ = front.get("license")
    for value in license_ if isinstance(license_, list) else [license_]:
        if isinstance(value, str) and value:
            warnings += [f"README.md: {line}" for line in normalize_license(value)[1]]
    for key in ("tags", "datasets", "language"):
        value = front.get(key)
        several = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, str | int | float | bool) for item in several):
            problems.append(f"README.md: {key!r} must be text or a list of texts")
    base = front.get("base_model")
    for value in base if isinstance(base, list) else [base]:
        if value is not None and (not isinstance(value, str) or model_id_problems(value)):
            warnings.append(f"README.md: base_model {value!r:.80} is not the public id of a model")
    odd = [
        *language_warnings(front.get("language")),
        *result_warnings(front.get("model-index")),
        *link_warnings(text),
    ]
    return problems, warnings + [f"README.md: {line}" for line in odd], front
