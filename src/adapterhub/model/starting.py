"""Starts of LoRA adapters that need more than the base model: data (EVA), or full weights (LoftQ)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adapterhub.configs import ConfigUnion
from adapterhub.engine.records import AdapterRecord
from adapterhub.errors import ConfigError, UnknownAdapterError, did_you_mean
from adapterhub.methods import build
from adapterhub.methods.hosts import effective_weight, weight_part
from adapterhub.methods.lora import LoRA
from adapterhub.methods.starts import PrincipalInputs, residual_start, spread_ranks

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine

#: Two passes with components this close count as the same (EVA's tau).
_CLOSE = 0.01


class HandleStarting:
    """The part of the handle that gives LoRA adapters a start."""

    if TYPE_CHECKING:
        engine: Engine
        model: Any

    def start_adapter(
        self,
        adapter_name: str,
        how: str,
        *,
        data: Iterable[Any] | None = None,
        rho: float = 1.0,
        weights: nn.Module | Mapping[str, torch.Tensor] | str | os.PathLike[str] | None = None,
    ) -> None:
        """Give a fresh LoRA adapter a start that data or the weights before quantising give it.

        The base model is not changed. Starts that need the base weights alone (PiSSA, OLoRA) are values of
        ``init_weights`` instead.

        Args:
            adapter_name: a LoRA adapter (DoRA too), added before and not trained yet.
            how: ``"eva"`` (Paischer et al. 2024, arXiv 2410.07170): the rows of A become the directions in
                which the projection's inputs vary most, B stays 0. ``"loftq"`` (Li et al. 2023, arXiv
                2310.08659): s B A becomes the best approximation of what quantising the base took away,
                W - Q. The base is as it was quantised, so there is one step, not LoftQ's alternation.
            data: for ``eva``, batches as the model's forward takes them (mappings); padding is left out.
                Read until the directions stop moving, or to the end.
            rho: for ``eva``, at least 1. Above 1 ranks move to places with more variance to explain: each
                may grow to rho r while the mean stays r. Scales alpha / r stay.
            weights: for ``loftq``, the model before quantising, its state dict, or a folder with its
                safetensors.

        Raises:
            ConfigError: no plain LoRA, no data or weights, or weights that do not fit.
        """
        record, modules = self._fresh_lora(adapter_name, how)
        if how == "eva":
            if data is None:
                raise ConfigError("start_adapter(how='eva') needs data=, batches for the model.")
            if not isinstance(rho, (int, float)) or rho < 1:
                raise ConfigError(f"rho={rho!r}: give a number of at least 1.")
            self._start_eva(record, modules, data, float(rho))
        elif how == "loftq":
            if weights is None:
                raise ConfigError(
                    "start_adapter(how='loftq') needs weights=, the model's before quantising."
                )
            self._start_loftq(modules, weights)
        else:
            raise ConfigError(
                f"No start '{how}'; there are eva and loftq, and init_weights='pissa' or 'olora'."
            )

    def _fresh_lora(self, name: str, how: str) -> tuple[AdapterRecord, dict[Any, LoRA]]:
        record = self.engine.adapters.get(name)
        if record is None:
            known = self.engine.adapters
            raise UnknownAdapterError(f"No adapter '{name}' is loaded.{did_you_mean(name, known)}")
        modules = {k: m for k, m in record.modules.items() if isinstance(m, LoRA)}
        others = [type(m).__name__ for k, m in record.modules.items() if k not in modules]
        started = [m for m in modules.values() if m.started]
        if others or started or isinstance(record.config, ConfigUnion):
            what = others[0] if others else "a union of methods"
            if started:
                what = "one with a start from the base weight already (init_weights)"
            raise ConfigError(f"'{how}' starts plain LoRA adapters, and '{name}' has {what}.")
        return record, modules

    def _start_eva(
        self, record: AdapterRecord, modules: dict[Any, LoRA], data: Iterable[Any], rho: float
    ) -> None:
        sites = {key: self.engine.resolved.sites[key] for key in modules}
        unseen = [str(key) for key in sites if key.point == "tokens"]
        if unseen:
            raise ConfigError(f"'eva' looks at vectors, and {unseen[0]} sees token ids.")
        count = {k: min(int(m.rank * rho), sites[k].in_features) for k, m in modules.items()}
        found = self._components(sites, count, data)
        few = next((key for key, state in found.items() if len(state.share) < count[key]), None)
        if few is not None:
            raise ConfigError(
                f"The data has {found[few].seen} vectors at {few}, too few for rank {count[few]}; give more."
            )
        if rho > 1:
            modules = self._with_ranks(record, {key: found[key].share for key in sites})
        for key, module in modules.items():
            rows = found[key].components[: module.rank].to(module.lora_A)
            module.start_from(rows, torch.zeros_like(module.lora_B))

    def _components(
        self, sites: dict[Any, Any], count: dict[Any, int], data: Iterable[Any]
    ) -> dict[Any, PrincipalInputs]:
        """Run the bare base model over *data* and return what the places saw."""
        found: dict[Any, PrincipalInputs] = {}
        groups: dict[int, list[Any]] = {}
        for key, site in sites.items():
            groups.setdefault(id(site.host), []).append(key)
        mask: list[Any] = [None]

        def watch(keys: list[Any], state: PrincipalInputs) -> Any:
            def look(module: nn.Module, args: tuple[Any, ...]) -> None:
                x, shown = args[0], mask[0]
                if shown is not None and x.dim() == 3 and x.shape[:2] == shown.shape:
                    x = x[shown.bool()]
                state.update(x.reshape(-1, x.shape[-1]))

            for key in keys:
                found[key] = state
            return sites[keys[0]].host.register_forward_pre_hook(look)

        handles = [
            watch(keys, PrincipalInputs(max(count[k] for k in keys))) for keys in groups.values()
        ]
        active, training = self.engine.active, self.model.training
        device = self.engine.resolved.device()
        try:
            self.engine.activate(None)
            self.model.eval()
            with torch.no_grad():
                for batch in data:
                    moved = {
                        k: v.to(device) if isinstance(v, torch.Tensor) else v
                        for k, v in dict(batch).items()
                    }
                    mask[0] = moved.get("attention_mask")
                    self.model(**moved)
                    if all(state.moved < _CLOSE for state in found.values()):
                        break
        finally:
            for handle in handles:
                handle.remove()
            self.model.train(training)
            if active is not None:
                self.engine.activate(active.tree, tuple(active.skip_layers))
        blind = next((key for key, state in found.items() if not state.seen), None)
        if blind is not None:
            raise ConfigError(f"No batch of the data reaches {blind}; is data= empty?")
        return found

    def _with_ranks(
        self, record: AdapterRecord, shares: dict[Any, torch.Tensor]
    ) -> dict[Any, LoRA]:
        """Exchange the adapter's modules for some whose ranks follow *shares*, and return them."""
        config: Any = record.config
        ranks = spread_ranks({str(key): value for key, value in shares.items()}, config.r)
        scale = config.alpha / config.r
        config = config.replace(
            rank_pattern={p: r for p, r in ranks.items() if r != config.r},
            alpha_pattern={p: scale * r for p, r in ranks.items() if r != config.r},
        )
        like: Any = next(iter(record.modules.values())).lora_A
        trained = like.requires_grad
        built = build(config, self.engine.resolved)
        modules: dict[Any, Any] = {item.site.key: item.module.to(like) for item in built.placed}
        for module in modules.values():
            module.requires_grad_(trained)
        active = self.engine.active
        self.engine.remove(record.name)
        self.engine.add(AdapterRecord(record.name, config, modules, {}))
        if active is not None:
            self.engine.activate(active.tree, tuple(active.skip_layers))
        return modules

    def _start_loftq(self, modules: dict[Any, LoRA], weights: Any) -> None:
        tensors = _tensors(weights)
        starts = {}
        for key, module in modules.items():
            site = self.engine.resolved.sites[key]
            path = ".".join(p for p in (self.engine.resolved.base_path, site.path, "weight") if p)
            full = tensors(path)
            if full is None:
                full = tensors(f"{site.path}.weight")
            if full is None:
                raise ConfigError(f"weights= has no '{path}', which the place {key} needs.")
            now = effective_weight(site)
            full = weight_part(full, site)
            if full.shape != now.shape:
                raise ConfigError(
                    f"weights= has {tuple(full.shape)} for {key}, where the model has {tuple(now.shape)}."
                )
            residual = full.to(now.device).float() - now.float()
            starts[key] = residual_start(residual, module.rank, module.scaling)
        for key, (a, b) in starts.items():
            modules[key].start_from(a, b)


def _tensors(weights: Any) -> Any:
    """Return a function from a tensor's name to the tensor or ``None``."""
    if isinstance(weights, nn.Module):
        weights = weights.state_dict()
    if isinstance(weights, Mapping):
        return weights.get
    from safetensors import safe_open

    files = sorted(Path(weights).glob("*.safetensors"))
    if not files:
        raise ConfigError(f"weights={str(weights)!r}: no safetensors file in that folder.")
    where = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            where.update(dict.fromkeys(opened.keys(), file))

    def read(name: str) -> torch.Tensor | None:
        if name not in where:
            return None
        with safe_open(where[name], framework="pt") as opened:
            return opened.get_tensor(name)

    return read
