"""Which tensor of a PEFT file is which part of which place: :func:`gather`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedSite
from adapterhub.engine import Engine
from adapterhub.errors import CheckpointError

#: What stands before a module's path in PEFT's files.
ROOT = "base_model.model."
#: Points of places that are projections.
PROJECTIONS = frozenset(("q", "k", "v", "o", "up", "gate", "down", "tokens", "vocabulary"))
_TENSOR = re.compile(
    r"^(?P<path>.+?)\.(?P<what>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|ia3_l"
    r"|base_layer)(\.(?P<leaf>weight|bias))?$"
)


@dataclass
class Change:
    """What a file has for one place.

    Attributes:
        path: of the module, as in the file.
        a, b: LoRA's (r, in) and (out, r). magnitude: DoRA's (out,).
        vector: (IA)3's factors, on the output or (*on_input*) on the input.
    """

    path: str
    a: torch.Tensor
    b: torch.Tensor
    magnitude: torch.Tensor | None = None
    vector: torch.Tensor | None = None
    on_input: bool = False

    @property
    def rank(self) -> int:
        """LoRA's rank here."""
        return self.a.shape[0]


def gather(
    engine: Engine, folder: Path, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[Any, Change], dict[str, torch.Tensor]]:
    """Sort a file's tensors by place; return the changes and all other tensors by their paths.

    Raises:
        CheckpointError: modules that are no places here, halves of pairs, other base weights; all at once.
    """
    modules: dict[str, dict[str, torch.Tensor]] = {}
    rest: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        short = key.removeprefix(ROOT)
        found = _TENSOR.match(short)
        if found is None:
            rest[short] = value
            continue
        leaf = f".{found['leaf']}" if found["what"] == "base_layer" else ""
        what = found["what"] + leaf
        if found["leaf"] == "bias" and not leaf:
            what += ".bias"
        modules.setdefault(found["path"], {})[what.replace("lora_embedding_", "lora_")] = value
    places = Places(engine)
    changes: dict[Any, Change] = {}
    problems: list[str] = []
    for path, parts in modules.items():
        host = places.module(path)
        sites = [] if host is None else places.sites(host)
        if not sites:
            problems.append(f"{path} is no place that adapters here can act at")
            continue
        problems += _problems(path, host, parts)
        if not problems:
            changes.update(_split(path, parts, sites))
    if problems:
        shown = "\n  - ".join(problems[:20])
        raise CheckpointError(
            f"{folder} does not fit this {type(engine.model).__name__}, nothing was loaded "
            f"(`adapterhub inspect` lists the places there are):\n  - {shown}"
        )
    return changes, rest


def _problems(path: str, host: Any, parts: dict[str, torch.Tensor]) -> Iterator[str]:
    for name in ("weight", "bias"):  # PEFT saves embeddings that it adapts, as they may have grown
        saved = parts.pop(f"base_layer.{name}", None)
        own = getattr(host, name, None)
        if saved is not None and not (
            isinstance(own, torch.Tensor)
            and own.shape == saved.shape
            and torch.equal(own.detach().cpu().float(), saved.float())
        ):
            yield f"{path} comes with a {name} of its own, which is not this model's"
    names = set(parts) - {"lora_magnitude_vector"}
    if names not in ({"lora_A", "lora_B"}, {"ia3_l"}):
        yield f"{path} has {', '.join(sorted(parts))}"


def _split(
    path: str, parts: Mapping[str, torch.Tensor], sites: list[ResolvedSite]
) -> Iterator[tuple[Any, Change]]:
    """Divide a module's tensors among the parts of a fused projection."""
    none = torch.empty(0)
    for site in sites:
        if "ia3_l" in parts:
            vector = parts["ia3_l"]
            on_input = vector.shape[0] == 1 and vector.dim() == 2 and vector.shape[1] != 1
            part = vector if on_input else rows_of(vector.reshape(-1, 1), site)
            yield site.key, Change(path, none, none, vector=part.flatten(), on_input=on_input)
        else:
            b = rows_of(parts["lora_B"], site)
            magnitude = parts.get("lora_magnitude_vector")
            if magnitude is not None:
                magnitude = rows_of(magnitude.reshape(-1, 1), site).flatten()
            yield site.key, Change(path, parts["lora_A"], b, magnitude)


def rows_of(rows: torch.Tensor, site: ResolvedSite) -> torch.Tensor:
    """Return the rows of (out of the host, ...) that are a place's."""
    if site.slice is None:
        return rows
    start, stop = site.slice
    if site.blocks == 1:
        return rows[start:stop]
    return rows.unflatten(0, (site.blocks, -1))[:, start:stop].flatten(0, 1)


class Places:
    """The modules of a model by the paths that files have for them, and the places that they are."""

    def __init__(self, engine: Engine) -> None:
        resolved = engine.resolved
        self.engine = engine
        self.by_host: dict[int, list[ResolvedSite]] = {}
        self.by_peer: dict[str, nn.Module] = {}
        self.by_module: dict[int, str] = {}
        sites = [*resolved.sites.values()]
        for kind in ("tokens", "vocabulary"):
            sites += resolved.extras(kind)
        seen = set()
        for site in sites:
            if site.key.point not in PROJECTIONS or site.key in seen:
                continue
            seen.add(site.key)
            self.by_host.setdefault(id(site.host), []).append(site)
            self.by_peer.setdefault(site.peer_path, site.host)

    def sites(self, host: nn.Module) -> list[ResolvedSite]:
        """Return the places that a module is; several for a fused projection."""
        return self.by_host.get(id(host), [])

    def module(self, path: str) -> nn.Module | None:
        """Return the module that a file calls *path*, in whichever class around the base model it was."""
        model, base = self.engine.model, self.engine.resolved.base
        inside = path
        while True:
            for root in (model, base):
                try:
                    return root.get_submodule(inside)
                except AttributeError:
                    pass
            if inside in self.by_peer:
                return self.by_peer[inside]
            head, _, inside = inside.partition(".")
            if not inside or head.isdigit():
                return None

    def path(self, site: ResolvedSite) -> str | None:
        """Return the path of a place's module in the model."""
        if not self.by_module:
            named = self.engine.model.named_modules()
            self.by_module = {id(module): name for name, module in named}
        return self.by_module.get(id(site.host))
