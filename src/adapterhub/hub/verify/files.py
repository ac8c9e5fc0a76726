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
from adapterhub.hub.sniff import sniff
from adapterhub.hub.tensors import TensorFile, TensorInfo, number_problems, read_header, strict_json
from adapterhub.hub.verify.results import Result, result

#: The version of every check of this file. The names are the order in which they run.
VERSIONS = {"name": 1, "content": 1, "header": 1, "numbers": 1, "config": 1, "card": 1}

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
            numbers = [f"{name} {line}" for line in number_problems(path, header.tensors)]
            results.append(_result("numbers", numbers))
    elif kind == "json" and base in (CONFIG_FILE, HEAD_CONFIG_FILE):
        results.append(_check_config(path, name))
    elif kind == "text" and name == "README.md":
        results.append(_check_card(path))
    return results


def _result(
    check: str, problems: list[str], warnings: list[str] | None = None, **data: Any
) -> Result:
    return result(check, VERSIONS[check], problems, warnings or (), **data)


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
        problems = [] if isinstance(info.get("config"), dict) else ["'config' must be an object"]
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
    problems, warnings, front = card_problems(path.read_text(encoding="utf-8-sig"))
    return _result("card", problems, warnings, front=front)


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
    return problems, warnings + _result_warnings(front.get("model-index")), front


def _result_warnings(index: Any) -> list[str]:
    """Check the evaluation results: a number each, for a data set."""
    if index is None:
        return []
    warnings = []
    for model in index if isinstance(index, list) else [None]:
        results = model.get("results") if isinstance(model, dict) else None
        for entry in results if isinstance(results, list) else [None]:
            dataset = entry.get("dataset") if isinstance(entry, dict) else None
            metrics = entry.get("metrics") if isinstance(entry, dict) else None
            if not isinstance(dataset, dict) or not isinstance(metrics, list):
                return [
                    "README.md: model-index needs, for each model, results with dataset and metrics"
                ]
            for metric in metrics:
                value = metric.get("value") if isinstance(metric, dict) else None
                if (
                    isinstance(value, bool)
                    or not isinstance(value, int | float)
                    or not math.isfinite(value)
                ):
                    warnings.append(f"README.md: the result {value!r:.60} is not a number")
    return warnings
