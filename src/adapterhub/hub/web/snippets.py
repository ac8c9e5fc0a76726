"""Code to load an adapter that runs as pasted, for each library that can load it.

Every snippet is made for the case at hand: files on a live server, files beside the published pages,
files in a folder, or an adapter of the old collection whose files are elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from adapterhub.hub.web import links
from adapterhub.hub.web.source import Detail, HubInfo, Version


@dataclass(frozen=True)
class Snippet:
    """A piece of code: which library, in which language, and what is to know about it."""

    title: str
    code: str
    language: str = "python"
    note: str = ""


def snippets(hub: HubInfo, detail: Detail) -> tuple[Snippet, ...]:
    """Return the ways to load the default version of an adapter, the shortest first."""
    adapter = detail.adapter
    version = next((v for v in detail.versions if v.name == adapter.version), None)
    if adapter.format == "peft" and hub.endpoint:
        return (
            _peft(hub.endpoint, detail),
            _transformers(hub.endpoint, detail),
            _served("adapterhub", hub.endpoint, detail),
        )
    if version is None or not version.files:
        return _archived(detail, version)
    if hub.endpoint:
        return (
            _served("adapterhub", hub.endpoint, detail),
            _served("adapters", hub.endpoint, detail),
        )
    if hub.site:
        return (_published(hub.site, detail, version), *_cloned(hub, detail))
    return _cloned(hub, detail)


def _q(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _model(module: str, base: str) -> str:
    return (
        f"from {module} import AutoAdapterModel\n\n"
        f"model = AutoAdapterModel.from_pretrained({_q(base)})\n"
    )


def _load(*arguments: str) -> str:
    """Return the lines that load and activate, broken where they would be too long to read."""
    line = f"name = model.load_adapter({', '.join(arguments)})\n"
    if len(line) > 72:
        inner = "".join(f"    {argument},\n" for argument in arguments)
        line = f"name = model.load_adapter(\n{inner})\n"
    return f"{line}model.set_active_adapters(name)\n"


def _served(module: str, endpoint: str, detail: Detail) -> Snippet:
    adapter = detail.adapter
    variable, name, *more = {
        "adapterhub": ["ADAPTERHUB_HUB", adapter.identifier],
        "adapters": ["HF_ENDPOINT", f"{adapter.owner}/{adapter.name}", "use_safetensors=True"],
    }[module]
    code = (
        f"import os\n\nos.environ[{_q(variable)}] = {_q(endpoint)}  # before the first import\n"
        f"{_model(module, adapter.base_model)}{_load(_q(name), *more)}"
    )
    return Snippet(module, code)


#: The class of PEFT's, and of transformers', for each kind of task that PEFT knows.
_AUTO = {
    "CAUSAL_LM": "ForCausalLM",
    "SEQ_2_SEQ_LM": "ForSeq2SeqLM",
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}


def _peft(endpoint: str, detail: Detail) -> Snippet:
    adapter = detail.adapter
    kind = f"AutoPeftModel{_AUTO.get(str(detail.config.get('task_type')), '')}"
    code = (
        f'import os\n\nos.environ["HF_ENDPOINT"] = {_q(endpoint)}  # before the first import\n'
        f"from peft import {kind}\n\n"
        f"model = {kind}.from_pretrained({_q(f'{adapter.owner}/{adapter.name}')})\n"
    )
    return Snippet("PEFT", code, note=_FETCHED)


def _transformers(endpoint: str, detail: Detail) -> Snippet:
    adapter = detail.adapter
    kind = f"AutoModel{_AUTO.get(str(detail.config.get('task_type')), '')}"
    code = (
        f"from transformers import {kind}\n\n"
        f"model = {kind}.from_pretrained({_q(adapter.base_model)})\n\n"
        "# The base model comes from where yours come from, the adapter from here.\n"
        "from huggingface_hub import snapshot_download\n\n"
        f"folder = snapshot_download(\n    {_q(f'{adapter.owner}/{adapter.name}')},\n"
        f"    endpoint={_q(endpoint)},\n)\n"
        "model.load_adapter(folder)\n"
    )
    return Snippet("transformers", code)


_FETCHED = (
    "With HF_ENDPOINT set, the base model is asked for here, too. Where it is not, load it first and keep "
    "it in the cache, or take the code for transformers."
)


def _published(site: str, detail: Detail, version: Version) -> Snippet:
    adapter = detail.adapter
    address = site.rstrip("/") + "/" + links.blob(adapter.owner, adapter.name, version.name, "")
    names = "".join(f"    {_q(file.path)},\n" for file in version.files)
    code = (
        "from pathlib import Path\nfrom urllib.request import urlretrieve\n\n"
        f"{_model('adapterhub', adapter.base_model)}"
        f"folder = Path({_q(adapter.name)})\nfolder.mkdir(exist_ok=True)\n"
        f"site = {_q(address)}\n"
        f"for file in [\n{names}]:\n"
        "    urlretrieve(site + file, folder / file)\n"
        f"{_load('str(folder)')}"
    )
    return Snippet("adapterhub", code, note="Fetches the files from this site.")


def _cloned(hub: HubInfo, detail: Detail) -> tuple[Snippet, ...]:
    adapter = detail.adapter
    folder = "hub" if hub.repository else hub.name
    note = "" if hub.repository else f"{folder} stands for your copy of this hub's folder."
    code = (
        f'import os\n\nos.environ["ADAPTERHUB_HUB"] = {_q(folder)}\n'
        f"{_model('adapterhub', adapter.base_model)}"
        f"{_load(_q(adapter.identifier))}"
    )
    clone = f"git clone {hub.repository} hub\n" if hub.repository else ""
    shell = f"{clone}adapterhub pull {adapter.identifier} --to {adapter.name} --hub {folder}\n"
    return (
        Snippet("adapterhub, hub folder", code, note=note),
        Snippet("Command line", shell, "shell", note),
    )


def _archived(detail: Detail, version: Version | None) -> tuple[Snippet, ...]:
    adapter = detail.adapter
    note = (
        "The files are not in this hub. AdapterHub.ml's collection has moved to the organisation "
        "AdapterHub on the Hugging Face Hub, where each adapter keeps its name."
    )
    found = []
    moved = _q(f"AdapterHub/{adapter.name}")
    for module, more in (("adapterhub", ['source="hf"']), ("adapters", [])):
        code = f"{_model(module, adapter.base_model)}{_load(moved, *more)}"
        found.append(Snippet(module, code, note=note))
    if version is not None and version.url and version.sha256:
        lines = (
            f"curl -LfO {_shell(version.url)}\n"
            f"echo {_shell(version.sha256 + '  ' + version.url.rpartition('/')[2])} | sha256sum -c\n"
        )
        found.append(
            Snippet("Archive", lines, "shell", "The address on the card, with its checksum.")
        )
    return tuple(found)


def _shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
