"""Looks at an adapter folder before it is published: names, contents, tensors, configuration.

The checks run from cheap to dear and collect every problem instead of stopping at the first, so
that one round of mending is enough.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.names import collision_problems, member_path_problems
from adapterhub.hub.sniff import SAVE_AS_SAFETENSORS, sniff
from adapterhub.hub.tensors import number_problems, read_header, strict_json

MAX_FILES = 200
MAX_TOTAL_BYTES = 20 * 1024**3
MAX_CONFIG_BYTES = 1024 * 1024

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter.safetensors"
HEAD_CONFIG_FILE = "head_config.json"
HEAD_WEIGHTS_FILE = "model_head.safetensors"

#: Settings with a known meaning, and the range in which they make sense.
_RANGES: dict[str, tuple[float, float]] = {
    "reduction_factor": (1e-3, 65536),
    "inv_adapter_reduction_factor": (1e-3, 65536),
    "r": (1, 65536),
    "alpha": (0, 1e6),
    "dropout": (0, 1),
    "prefix_length": (1, 65536),
    "prompt_length": (1, 65536),
    "bottleneck_size": (1, 65536),
    "phm_dim": (1, 4096),
    "stochastic_depth": (0, 1),
}


@dataclass
class Inspection:
    """What was learnt from the files of an adapter.

    Attributes:
        problems: Why it cannot be published; empty if it can.
        info: The content of ``adapter_config.json``.
        parameters: Number of weights in all safetensors files.
        has_head: Whether a prediction head comes with it.
        front_matter: The YAML block at the top of ``README.md``.
    """

    problems: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    has_head: bool = False
    front_matter: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the adapter itself."""
        config = self.info.get("config")
        return config if isinstance(config, dict) else {}


def list_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the files below *folder* by relative name, and what is wrong with names and sizes."""
    if not folder.is_dir():
        raise HubError(f"{folder} is not a folder; give the folder that save_adapter wrote")
    found: dict[str, Path] = {}
    problems: list[str] = []
    total = 0

    def failed(error: OSError) -> None:
        problems.append(f"a folder cannot be read: {error}")

    for parent, folders, names in os.walk(folder, onerror=failed):
        folders.sort()
        for name in sorted(names) + [f for f in folders if os.path.islink(os.path.join(parent, f))]:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            wrong = member_path_problems(relative)
            if path.is_symlink():
                wrong.append(
                    f"{relative} is a link; put the file itself there (cp -rL follows links)"
                )
            elif not path.is_file():
                wrong.append(f"{relative} is not a regular file; remove it")
            if wrong:
                problems += wrong
                continue
            total += path.stat().st_size
            found[relative] = path
            if len(found) > MAX_FILES:
                problems.append(f"there are more than {MAX_FILES} files; publish the adapter only")
                return found, problems
    if total > MAX_TOTAL_BYTES:
        problems.append(f"the files have {total} bytes; at most {MAX_TOTAL_BYTES} can be published")
    problems += collision_problems(found)
    return found, problems


def inspect_files(files: Mapping[str, Path]) -> Inspection:
    """Check the contents of the files of one adapter (relative name to path)."""
    result = Inspection()
    kinds = {}
    for name, path in files.items():
        kind, problems = sniff(path, name)
        kinds[name] = kind
        result.problems += problems
        if kind == "safetensors":
            tensors = read_header(path)
            problems = tensors.problems or number_problems(path, tensors.tensors)
            result.problems += [f"{name} {problem}" for problem in problems]
            result.parameters += tensors.parameters
    _check_set(files, kinds, result)
    if kinds.get(CONFIG_FILE) == "json":
        _check_config(files[CONFIG_FILE], result)
    if kinds.get("README.md") == "text":
        _check_readme(files["README.md"], result)
    return result


def _check_set(files: Mapping[str, Path], kinds: Mapping[str, Any], result: Inspection) -> None:
    """Check that the files that make an adapter are there, and in pairs."""
    if CONFIG_FILE not in files:
        result.problems.append(
            f"{CONFIG_FILE} is missing; give the folder that save_adapter wrote for one adapter"
        )
    if WEIGHTS_FILE not in files:
        if "adapter_model.safetensors" in files:
            way = "this is a PEFT folder; load it in this library and save_adapter it again"
        else:
            way = SAVE_AS_SAFETENSORS.removesuffix(" and remove this file")
        result.problems.append(f"{WEIGHTS_FILE} is missing; {way}")
    elif kinds[WEIGHTS_FILE] == "safetensors" and not result.parameters and not result.problems:
        result.problems.append(f"{WEIGHTS_FILE} holds no weights")
    result.has_head = HEAD_WEIGHTS_FILE in files
    if result.has_head != (HEAD_CONFIG_FILE in files):
        have, lack = HEAD_WEIGHTS_FILE, HEAD_CONFIG_FILE
        if not result.has_head:
            have, lack = lack, have
        result.problems.append(f"{have} is here without {lack}; publish both or neither")


def _check_config(path: Path, result: Inspection) -> None:
    """Check ``adapter_config.json``: the keys that other people's programs rely on."""
    data = path.read_bytes()
    if len(data) > MAX_CONFIG_BYTES:
        result.problems.append(f"{CONFIG_FILE} is larger than {MAX_CONFIG_BYTES >> 20} MiB")
        return
    info = strict_json(data)
    if not isinstance(info, dict):
        result.problems.append(f"{CONFIG_FILE} is not a JSON object")
        return
    result.info = info
    if "peft_type" in info:
        result.problems.append(
            f"{CONFIG_FILE} is one of PEFT; load the folder in this library and save_adapter it"
        )
        return
    result.problems += [f"{CONFIG_FILE}: {problem}" for problem in info_problems(info)]


def info_problems(info: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the content of an ``adapter_config.json`` of the AdapterHub format."""
    problems = []
    config = info.get("config")
    if not isinstance(config, dict) or not config:
        problems.append("'config' must be an object with the full settings")
    else:
        problems += config_problems(config)
    for key in ("model_type", "name"):
        if not isinstance(info.get(key), str) or not info[key]:
            problems.append(f"{key!r} must be text")
    for key in ("model_class", "model_name", "version"):
        if not isinstance(info.get(key), str | None):
            problems.append(f"{key!r} must be text")
    hidden = info.get("hidden_size")
    if hidden is not None and (not isinstance(hidden, int) or hidden is True or hidden < 1):
        problems.append("'hidden_size' must be a positive whole number")
    return problems


def config_problems(config: Mapping[str, Any], prefix: str = "config") -> list[str]:
    """Return which settings of a configuration cannot be meant (recursing into unions)."""
    problems = []
    architecture = config.get("architecture")
    if architecture is not None and not isinstance(architecture, str):
        problems.append(f"{prefix}.architecture must be text")
    for key, (low, high) in _RANGES.items():
        value = config.get(key)
        several = list(value.values()) if isinstance(value, dict) else [value]
        for item in several:
            if item is None:
                continue
            number = isinstance(item, int | float) and not isinstance(item, bool)
            if not number or not math.isfinite(item) or not low <= item <= high:
                problems.append(f"{prefix}.{key} is {item!r:.60}; expected {low:g} to {high:g}")
    members = config.get("configs")
    if architecture == "union":
        if not isinstance(members, list) or not members:
            problems.append(f"{prefix}.configs must list the members of the union")
        for index, member in enumerate(members if isinstance(members, list) else ()):
            place = f"{prefix}.configs[{index}]"
            if not isinstance(member, dict) or member.get("architecture") == "union":
                problems.append(f"{place} must be one plain configuration")
            else:
                problems += config_problems(member, place)
    return problems


def _check_readme(path: Path, result: Inspection) -> None:
    """Read the YAML front matter of the README, if there is any."""
    try:
        result.front_matter = read_front_matter(path.read_text(encoding="utf-8-sig"))
    except HubError as error:
        result.problems.append(f"README.md: the block between the --- lines: {error}")


def read_front_matter(text: str) -> dict[str, Any]:
    """Return the YAML block between ``---`` lines at the top of a README; empty if there is none.

    Raises:
        HubError: If the block is not acceptable YAML; see :func:`adapterhub.hub.cardfile.loads`.
    """
    text = text.replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return {}
    block, end, _ = text[4:].partition("\n---")
    return cardfile.loads(block + "\n") if end and block.strip() else {}
