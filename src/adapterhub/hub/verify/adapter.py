"""The check of a commit as a whole: do its files make an adapter that somebody can load?

Two formats are known: ours, which is that of the ``adapters`` library (``adapter_config.json`` with a
``config``, ``adapter.safetensors``, perhaps a head), and PEFT's (``adapter_config.json`` with a
``peft_type``, ``adapter_model.safetensors``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub.hub.inspection import CONFIG_FILE, HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE, WEIGHTS_FILE
from adapterhub.hub.verify.results import Result, result

VERSION = 1
PEFT_WEIGHTS_FILE = "adapter_model.safetensors"

#: All results of the single files: path to name of the check to result.
FileResults = Mapping[str, Mapping[str, Result]]


def check_set(files: FileResults) -> Result:
    """Check that the files that make an adapter are there and agree with each other."""
    info = config_of(files)
    if info is None:
        return _result([f"there is no {CONFIG_FILE}, so this is not an adapter yet"])
    kind = format_of(info)
    weights = weights_file(kind)
    problems = []
    if weights not in files:
        problems.append(f"there is no {weights}, so this is not an adapter yet")
    elif not sum(data_of(files, weights, "header").get("parameters", {}).values()):
        problems.append(f"{weights} holds no weights")
    if kind == "adapterhub":
        if (HEAD_WEIGHTS_FILE in files) != (HEAD_CONFIG_FILE in files):
            problems.append(f"of {HEAD_CONFIG_FILE} and {HEAD_WEIGHTS_FILE} only one is there")
        if not info.get("model_name"):
            problems.append(
                f"{CONFIG_FILE}: 'model_name' does not say which base model this is for"
            )
    elif not info.get("base_model_name_or_path"):
        problems.append(
            f"{CONFIG_FILE}: 'base_model_name_or_path' does not say which base model this is for"
        )
    if not problems:
        problems += _rank_problems(
            info, data_of(files, weights, "header").get("ranks", []), weights
        )
    return _result(problems, format=kind)


def _result(problems: list[str], **data: Any) -> Result:
    return result("adapter", VERSION, problems, **data)


def config_of(files: FileResults) -> dict[str, Any] | None:
    """Return the content of the adapter's configuration file, if there is a valid one."""
    info = data_of(files, CONFIG_FILE, "config").get("info")
    return info if isinstance(info, dict) else None


def data_of(files: FileResults, path: str, check: str) -> Mapping[str, Any]:
    """Return what a check learnt about a file; empty if the file is not there."""
    found = files.get(path, {}).get(check)
    return found.data if found is not None else {}


def format_of(info: Mapping[str, Any]) -> str:
    """Return ``"peft"`` or ``"adapterhub"``."""
    return "peft" if "peft_type" in info else "adapterhub"


def weights_file(kind: str) -> str:
    """Return the name of the file of weights in a format."""
    return PEFT_WEIGHTS_FILE if kind == "peft" else WEIGHTS_FILE


def _rank_problems(info: Mapping[str, Any], ranks: list[int], weights: str) -> list[str]:
    """Compare the rank that the configuration states with the shapes of the matrices."""
    config = info if format_of(info) == "peft" else info.get("config") or {}
    stated, several = (
        config.get("r"),
        config.get("rank_pattern") or config.get("architecture") == "union",
    )
    if not ranks or several or not isinstance(stated, int) or ranks == [stated]:
        return []
    return [f"{CONFIG_FILE} says r = {stated}, but the matrices in {weights} have rank {ranks[0]}"]
