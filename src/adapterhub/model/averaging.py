"""Merging adapters into a new one: :meth:`HandleAveraging.average_adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from adapterhub.engine import AdapterRecord, Engine
from adapterhub.errors import ConfigError, did_you_mean
from adapterhub.methods import averaging as maths
from adapterhub.model.average_changes import STRATEGIES as ON_CHANGES
from adapterhub.model.average_changes import merge_changes
from adapterhub.model.average_tensors import STRATEGIES as ON_TENSORS
from adapterhub.model.average_tensors import merge_tensors
from adapterhub.model.files import check_name

#: Strategies that exist in both ways: on tensors, and with ``svd_rank`` on changes of weight.
SPARSE = ("ties", "dare")


class HandleAveraging:
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` that merges adapters."""

    engine: Engine

    if TYPE_CHECKING:

        def _require(self, name: str) -> None: ...

        def _put(self, record: AdapterRecord) -> None: ...

        def set_active_adapters(
            self, adapter_setup: Any, skip_layers: list[int] | None = None
        ) -> None: ...

    def average_adapter(
        self,
        adapter_name: str,
        adapter_list: Sequence[str] | Mapping[str, float],
        weights: Sequence[float] | None = None,
        combine_strategy: str = "linear",
        normalize_weights: bool = True,
        overwrite_ok: bool = False,
        set_active: bool = False,
        svd_rank: int | None = None,
        density: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Add a new adapter that is made of the weights of others.

        Strategies, with weights w_i, tensors t_i and the scale s_i = alpha / r of LoRA:

        - ``"linear"``: every tensor is sum_i w_i t_i. For LoRA that is the mean of A and the mean of B, which
          is not the mean of the changes B A.
        - ``"lora_linear_only_negate_b"``: linear, but with |w_i| for A, so that a negative weight subtracts.
        - ``"lora_delta_w_svd"``: the best approximation of rank ``svd_rank`` of the mean change
          sum_i w_i s_i B_i A_i. Ranks and scales may differ; LoRA, VeRA and MTL-LoRA.
        - ``"lora_concat"``: exactly that mean change, of rank sum_i r_i.
        - ``"ties"``: trim, elect signs, merge (Yadav et al. 2023); on changes of weight if there is an
          ``svd_rank``, otherwise on each tensor's distance from its start.
        - ``"dare"``: drop at random and rescale (Yu et al. 2024), likewise.

        Args:
            adapter_name: the new adapter.
            adapter_list: names, or ``{name: weight}``.
            weights: one a name; default: equal weights.
            combine_strategy: see above.
            normalize_weights: divide the weights by their sum (default).
            overwrite_ok: replace an adapter of that name.
            set_active: make it the active setup.
            svd_rank: rank of the result; default for ``"lora_delta_w_svd"``: the smallest that is exact.
            density: for ``"ties"`` and ``"dare"``, share of entries kept, in (0, 1].
            seed: for ``"dare"``.

        Raises:
            UnknownAdapterError: an adapter that is not loaded.
            ConfigError: adapters that cannot be merged this way, with the reason; nothing is added.
        """
        check_name(adapter_name)
        if adapter_name in self.engine.adapters and not overwrite_ok:
            raise ConfigError(
                f"There is an adapter '{adapter_name}' already; pass overwrite_ok=True to replace it."
            )
        names, shares = _shares(adapter_list, weights, normalize_weights)
        for name in names:
            self._require(name)
        combine = _combiner(combine_strategy, shares, density, seed)
        records = [self.engine.adapters[name] for name in names]
        with torch.no_grad():
            if combine_strategy in ON_CHANGES or (
                combine_strategy in SPARSE and svd_rank is not None
            ):
                record = merge_changes(
                    self.engine, records, shares, combine_strategy, combine, svd_rank
                )
            elif svd_rank is not None:
                raise ConfigError(
                    f"'{combine_strategy}' keeps the rank of the adapters, so svd_rank={svd_rank} has no "
                    "meaning; use 'lora_delta_w_svd', or leave it out."
                )
            else:
                record = merge_tensors(self.engine, records, shares, combine_strategy, combine)
        record.name = adapter_name
        self._put(record)
        if set_active:
            self.set_active_adapters(adapter_name)


def _shares(
    adapters: Sequence[str] | Mapping[str, float],
    weights: Sequence[float] | None,
    normalize: bool,
) -> tuple[list[str], list[float]]:
    """Return names and weights."""
    if isinstance(adapters, str):
        raise ConfigError(f"adapter_list is a list of names, not the text {adapters!r}.")
    names = list(adapters)
    if isinstance(adapters, Mapping):
        if weights is not None:
            raise ConfigError(
                "adapter_list has the weights in it already ({name: weight}); leave out weights=."
            )
        weights = list(adapters.values())
    if not names:
        raise ConfigError("adapter_list is empty; name at least one adapter.")
    values = [1.0 / len(names)] * len(names) if weights is None else list(weights)
    if len(values) != len(names):
        raise ConfigError(f"There are {len(names)} adapters but {len(values)} weights.")
    return names, maths.normalised(values, normalize)


def _combiner(strategy: str, weights: list[float], density: float, seed: int) -> maths.Combine:
    """Return what merges changes that are zero where nothing was learned."""
    known = tuple(dict.fromkeys((*ON_TENSORS, *ON_CHANGES)))
    if strategy not in known:
        raise ConfigError(
            f"Unknown combine_strategy '{strategy}'; known: {', '.join(known)}."
            f"{did_you_mean(str(strategy), known)}"
        )
    if strategy in SPARSE:
        maths.check_density(density)
    generator = torch.Generator().manual_seed(seed)

    def combine(changes: Sequence[torch.Tensor]) -> torch.Tensor:
        if strategy == "ties":
            return maths.ties(changes, weights, density)
        if strategy == "dare":
            return maths.dare(changes, weights, density, generator)
        return maths.linear(changes, weights)

    return combine
