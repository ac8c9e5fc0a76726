"""What follows from the files of an adapter: facts to show and tags to find it by.

The files count more than the card: what is derived from them (format, method, base model, numbers) is
never replaced by what a README claims. The card adds what only people know (task, data sets, languages,
licence), and where the two disagree, both are kept and the conflict is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adapterhub.hub.confighash import library_hash, method_name
from adapterhub.hub.headtypes import head_type
from adapterhub.hub.inspection import HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE
from adapterhub.hub.languages import split_languages
from adapterhub.hub.licenses import normalize_license
from adapterhub.hub.verify.adapter import FileResults, config_of, data_of, format_of, weights_file

_MAX_TAGS = 100


def texts(value: Any) -> list[str]:
    """Return a card value, which may be one text or a list, as a list of short texts."""
    several = value if isinstance(value, list) else [value]
    found = [
        str(item).strip()
        for item in several
        if isinstance(item, str | int | float) and item is not True
    ]
    return [item[:200] for item in found if item]


def derive(files: FileResults, size: int) -> dict[str, Any]:
    """Return the facts of a commit whose files have these results; *size* in bytes of all files.

    Among them ``tags``, the words by which the adapter is found.
    """
    facts = _derive(files, size)
    return {**facts, "tags": tags(facts)}


def _derive(files: FileResults, size: int) -> dict[str, Any]:
    readme = data_of(files, "README.md", "card")
    front = dict(readme.get("front") or {})
    facts: dict[str, Any] = {
        "card": front,
        "about": readme.get("about") or "",
        "size": size,
        "languages": list(split_languages(front.get("language"))),
    }
    licenses = [normalize_license(item)[0] for item in texts(front.get("license"))]
    facts["license"] = licenses[0] if licenses else None
    facts["datasets"] = texts(front.get("datasets"))
    facts["parameters"] = _sum(
        data_of(files, path, "header").get("parameters", {}) for path in files
    )
    info = config_of(files)
    if info is None:
        return facts
    kind = format_of(info)
    facts |= _of_peft(info) if kind == "peft" else _of_adapterhub(info)
    facts["format"] = kind
    ranks = data_of(files, weights_file(kind), "header").get("ranks") or []
    facts["rank"] = ranks[0] if len(ranks) == 1 else None
    facts["head"] = HEAD_WEIGHTS_FILE in files
    facts["head_type"] = head_type(info, data_of(files, HEAD_CONFIG_FILE, "config").get("info"))
    claimed = texts(front.get("base_model"))
    facts["conflicts"] = (
        [f"the card says base model {claimed[0]}, the files say {facts['base_model']}"]
        if claimed and facts["base_model"] and facts["base_model"] not in claimed
        else []
    )
    return facts


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for item in counts:
        for dtype, number in item.items():
            total[dtype] = total.get(dtype, 0) + number
    return total


def _of_adapterhub(info: Mapping[str, Any]) -> dict[str, Any]:
    config = info.get("config") or {}
    return {
        "library": "adapter-transformers",
        "method": method_name(config),
        "config_hash": library_hash(config),
        "base_model": info.get("model_name"),
        "model_type": info.get("model_type"),
        "model_class": info.get("model_class"),
        "config": config,
    }


def _of_peft(info: Mapping[str, Any]) -> dict[str, Any]:
    method = str(info["peft_type"]).lower()
    if method == "lora" and info.get("use_dora"):
        method = "dora"
    return {
        "library": "peft",
        "method": method,
        "base_model": info.get("base_model_name_or_path"),
        "base_revision": info.get("revision"),
        "task_type": info.get("task_type"),
        "config": {key: value for key, value in info.items() if value is not None},
    }


def hf_config(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``config`` of the model-info answer, with every key that a client looks for."""
    if facts.get("format") == "peft":
        return {
            "peft": {
                "base_model_name_or_path": facts.get("base_model"),
                "task_type": facts.get("task_type"),
            }
        }
    if facts.get("format") != "adapterhub":
        return {}
    inner = {"model_name": facts.get("base_model"), "model_class": facts.get("model_class")}
    # list_adapters of the adapters library reads the one key, get_adapter_info the other.
    return {"model_type": facts.get("model_type"), "adapter_transformers": inner, "adapters": inner}


def tags(facts: Mapping[str, Any]) -> list[str]:
    """Return the words by which an adapter is found, those of the files first."""
    card = facts.get("card") or {}
    found: list[str | None] = []
    if facts.get("format") == "adapterhub":
        found += ["adapter-transformers", "adapters", facts.get("model_type")]
    elif facts.get("format") == "peft":
        found += ["peft"]
    found += ["safetensors"] if facts.get("parameters") else []
    found += [facts.get("method")]
    found += texts(card.get("tags"))[:_MAX_TAGS]
    found += texts(card.get("pipeline_tag"))
    found += [f"adapterhub:{item}" for item in texts(card.get("adapterhub_task"))]
    found += facts.get("languages") or []
    found += [f"dataset:{item}" for item in facts.get("datasets") or ()]
    if facts.get("base_model"):
        found += [f"base_model:{facts['base_model']}", f"base_model:adapter:{facts['base_model']}"]
    if facts.get("license"):
        found += [f"license:{facts['license'].lower()}"]
    return list(dict.fromkeys(tag for tag in found if tag))[: 2 * _MAX_TAGS]
