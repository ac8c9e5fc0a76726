"""The three pages of an adapter: overview, versions, files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from adapterhub.hub.web import links, pages
from adapterhub.hub.web.compare import compare
from adapterhub.hub.web.pages import LANGUAGE_TYPE
from adapterhub.hub.web.sidebyside import figures
from adapterhub.hub.web.snippets import snippets
from adapterhub.hub.web.source import Detail, Source, Tensor, Version

Params = Mapping[str, Sequence[str]]
SHOWN_TENSORS = 250
SHOWN_STEPS = 20


def _above(detail: Detail) -> pages.Crumbs:
    adapter = detail.adapter
    first = ("Languages", links.LANGUAGES)
    if adapter.type != LANGUAGE_TYPE:
        first = ("Explore", links.EXPLORE)
    return (
        first,
        (adapter.task_name, links.task(adapter.type, adapter.task)),
        (adapter.subtask_name, links.dataset(adapter.type, adapter.task, adapter.subtask)),
    )


def adapter_page(source: Source, detail: Detail) -> pages.AdapterPage:
    """The overview."""
    adapter, hub = detail.adapter, source.hub()
    what = f"{adapter.task_name} ({adapter.subtask_name})"
    return pages.AdapterPage(
        path=links.adapter(adapter.owner, adapter.name),
        title=f"{adapter.identifier}: {what}",
        hub=hub,
        crumbs=_above(detail),
        about=adapter.summary or f"An adapter for {adapter.base_model} on {what}.",
        template="adapter.html",
        detail=detail,
        snippets=snippets(hub, detail),
        figures=figures(detail),
        measured=source.measured(adapter.owner, adapter.name),
        trial=source.trial(adapter.owner, adapter.name),
    )


def versions_page(source: Source, detail: Detail, params: Params) -> pages.VersionsPage:
    """The versions; *params* may name two to compare (``from``, ``to``)."""
    adapter = detail.adapter
    named = {version.name: version for version in detail.versions}
    old, new = (named.get((params.get(key) or [""])[0]) for key in ("from", "to"))
    chosen = _step(source, old, new) if old and new else None
    tensors = {
        version.name: {f.path: t for f in version.files if (t := source.tensors(f))}
        for version in (detail.versions if len(detail.versions) > 1 else ())
    }
    return pages.VersionsPage(
        path=links.versions(adapter.owner, adapter.name),
        title=f"Versions of {adapter.identifier}",
        hub=source.hub(),
        crumbs=(*_above(detail), (adapter.name, links.adapter(adapter.owner, adapter.name))),
        template="versions.html",
        detail=detail,
        steps=[_step(source, *pair) for pair in list(pairwise(detail.versions))[-SHOWN_STEPS:]],
        chosen=chosen,
        tensors={name: files for name, files in tensors.items() if files},
    )


def _step(source: Source, old: Version, new: Version) -> pages.Step:
    tensors: dict[str, tuple[Sequence[Tensor], Sequence[Tensor]]] = {}
    after = {file.path: file for file in new.files}
    for file in old.files:
        other = after.get(file.path)
        if other is not None and other.sha256 != file.sha256:
            pair = (source.tensors(file), source.tensors(other))
            if pair[0] is not None and pair[1] is not None:
                tensors[file.path] = (pair[0], pair[1])
    return pages.Step(old.name, new.name, compare(old, new, tensors))


def files_page(source: Source, detail: Detail, params: Params) -> pages.FilesPage:
    """The files of the default version with their tensors."""
    adapter = detail.adapter
    version = next((v for v in detail.versions if v.name == adapter.version), None)
    files = version.files if version else ()
    weights = []
    for file in files:
        tensors = source.tensors(file)
        if tensors is not None:
            count = sum(math.prod(tensor.shape) for tensor in tensors)
            cut = max(0, len(tensors) - SHOWN_TENSORS)
            weights.append(pages.Weights(file, tensors[:SHOWN_TENSORS], count, cut))
    return pages.FilesPage(
        path=links.files(adapter.owner, adapter.name),
        title=f"Files of {adapter.identifier}",
        hub=source.hub(),
        crumbs=(*_above(detail), (adapter.name, links.adapter(adapter.owner, adapter.name))),
        template="files.html",
        detail=detail,
        files=files,
        weights=weights,
    )
