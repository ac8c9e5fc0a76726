"""Adapters on the Hugging Face hub, or on any server that speaks its protocol (``HF_ENDPOINT``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError

#: Names of repositories there: ``owner/name``.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

CARD = """\
---
{front}---

# Adapter `{repo_id}` for {base_model}

{description}

This adapter was made with [AdapterHub](https://adapterhub.ml); the `adapters` library reads it, too.

## Usage

```python
from adapterhub import AutoAdapterModel

model = AutoAdapterModel.from_pretrained("{base_model}")
model.{function}("{repo_id}", source="hf", set_active=True)
```

## Architecture and training

{architecture_training}

## Evaluation results

{results}

## Citation

{citation}
"""
_BLANK = "_Nothing was said about this._"


def is_repository(identifier: str) -> bool:
    """Whether *identifier* can be the name of a repository there."""
    return len(identifier) <= 96 and _REPOSITORY.fullmatch(identifier) is not None


def folder_for(identifier: str, *, version: str | None = None, **_: Any) -> Path:
    """Download a repository into the cache of ``huggingface_hub``; return its folder.

    Args:
        identifier: ``owner/name``.
        version: branch, tag or commit; default: its main branch.

    Raises:
        HubError: no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(identifier, revision=version, library_name="adapterhub"))
    except (OSError, ValueError) as error:
        said = str(error).strip()
        reason = said.splitlines()[0] if said else type(error).__name__
        raise HubError(
            f"'{identifier}' cannot be had from the Hugging Face hub: {reason}"
        ) from error


def upload(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> str:
    """Upload a folder as a repository, which is made if it is missing; return the commit's address.

    Args:
        folder: what to upload.
        repo_id: ``owner/name``, or a name alone.
        private: make a new repository a private one.
        token: access token; default: the one that is logged in.
        options: as for ``huggingface_hub.HfApi.upload_folder`` (``commit_message``, ``create_pr``, …).

    Raises:
        HubError: refused, or out of reach.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        repository = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        done: Any = api.upload_folder(repo_id=repository, folder_path=folder, **options)
    except (OSError, ValueError) as error:
        raise HubError(f"'{repo_id}' was not uploaded: {error}") from error
    return str(getattr(done, "pr_url", None) or done.commit_url)


def card(
    repo_id: str,
    *,
    base_model: str,
    model_type: str,
    function: str = "load_adapter",
    datasets_tag: str | None = None,
    tags: Sequence[str] = (),
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    metrics: Sequence[str] | None = None,
    **texts: Any,
) -> str:
    """Return a README with front matter that hubs read.

    Args:
        repo_id, base_model, model_type: what it is. function: how the model loads it.
        datasets_tag: the data set it was trained on, by its name on the hub.
        tags, language, license, metrics: of the front matter.
        texts: ``description``, ``architecture_training``, ``results``, ``citation``.
    """
    import yaml

    # (The Hugging Face hub knows the format under this tag.)
    front: dict[str, Any] = {
        "tags": sorted({"adapter-transformers", "adapterhub", model_type, *tags})
    }
    if is_repository(base_model) or (base_model and "/" not in base_model):
        front["base_model"] = base_model
    for key, value in (
        ("datasets", [datasets_tag] if datasets_tag else None),
        ("language", language),
        ("license", license),
        ("metrics", list(metrics) if metrics else None),
    ):
        if value:
            front[key] = value
    filled: Mapping[str, str] = {
        key: str(texts.get(key) or _BLANK)
        for key in ("description", "architecture_training", "results", "citation")
    }
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        repo_id=repo_id,
        base_model=base_model or model_type,
        function=function,
        **filled,
    )
