"""What hangs in the model: :class:`Site` under each host, one :class:`Slot` a place.

A slot owns the adapters' modules at one place and the hook methods. Hooks are bound methods of a
child module: they follow ``deepcopy`` and pickling, and cost no more than an edited ``forward``.
Only slots that the active setup uses have hooks at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedSite
from adapterhub.context import local
from adapterhub.engine.attention import ConfigView, attend

#: Name under which a Site is registered in its host.
CHILD = "adapterhub"
_NUMBERS = itertools.count()


class Site(nn.Module):
    """Holds the slots of one host, by point."""

    def slot(self, point: str) -> Slot | None:
        return self._modules.get(point)  # type: ignore[return-value]


class Slot(nn.Module):
    """One place: its adapters (children, by adapter name), its fusion layers, its hooks.

    Attributes:
        site: what the place is; ``index``: its number in this process.
        node: what to evaluate, set by activation; ``None``: nothing.
        norm: (not registered) the host model's layer norm after the residual addition, or ``None``.
    """

    def __init__(self, site: ResolvedSite) -> None:
        super().__init__()
        self.index = next(_NUMBERS)
        self.node: Any = None
        self.stacks: dict[Any, Any] = {}
        # Modules of the host model are held in a tuple: registered they would be saved twice.
        self._held = (site, site.host, site.residual)
        self.__dict__["norm"] = site.norm
        self.fusions = nn.ModuleDict()
        self._handles: dict[str, Any] = {}

    @property
    def site(self) -> ResolvedSite:
        return self._held[0]

    @property
    def host(self) -> nn.Module:
        return self._held[1]

    def adapter(self, name: str) -> Any:
        """Return the module of adapter *name* here, or ``None``."""
        return self._modules.get(name) if name != "fusions" else self._modules.get("fusions.")

    # -- hooks -------------------------------------------------------------------------------------

    def _current(self) -> Any:
        override = local.ctx.override
        return self.node if override is None else override.get(self.index, self.node)

    def tap_residual(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Pre-hook on the sub-layer's first module: note the residual."""
        local.ctx.residuals[self.index] = args[0]

    def on_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Post-hook on the host of a residual site (``out``)."""
        ctx = local.ctx
        node = self.node if ctx.override is None else ctx.override.get(self.index, self.node)
        residual = ctx.residuals.pop(self.index, None)
        if node is None:
            return None
        if type(output) is tuple:
            return (node.act(output[0], residual), *output[1:])
        return node.act(output, residual)

    def on_linear(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on a projection."""
        override = local.ctx.override
        node = self.node if override is None else override.get(self.index, self.node)
        return None if node is None else node.act(output, args[0])

    def on_hidden(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on the embeddings."""
        node = self._current()
        return None if node is None else node.act(output, None)

    def on_fused(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on a fused projection: only this part of the output changes."""
        node = self._current()
        if node is None:
            return None
        start, stop = self._held[0].slice  # type: ignore[misc]
        part = node.act(output[..., start:stop], args[0])
        return torch.slice_scatter(output, part, -1, start, stop)

    def on_input(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Pre-hook: the place is the host's first input."""
        node = self._current()
        return None if node is None else (node.act(args[0], args[0]), *args[1:])

    def on_norm(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on the norm after the addition: give way to a final value (original_ln_after=False)."""
        return local.ctx.replacements.pop(self.index, None)

    def note_attention_input(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Pre-hook on an attention: note its input (for gates) and what its cache holds (for biases)."""
        ctx = local.ctx
        ctx.residuals[self.index] = args[0] if args else kwargs["hidden_states"]
        cache = kwargs.get("past_key_values")
        if cache is not None and self.site.bias_host is not None:
            seen = cache.get_seq_length(getattr(module, "layer_idx", 0))
            ctx.cache["seen", self.index] = seen.clone() if isinstance(seen, torch.Tensor) else seen

    # -- installing --------------------------------------------------------------------------------

    def needs(self, modules: list[Any]) -> frozenset[str]:
        """Return which hooks a setup with *modules* at this place needs."""
        site = self.site
        point = site.key.point
        if point == "kv":
            gated = any(module.gated for module in modules)
            return frozenset({"view", "note"} if gated or site.bias_host is not None else {"view"})
        if site.at_input:
            return frozenset({"input"})
        if point == "embed":
            return frozenset({"hidden"})
        if point != "out":
            return frozenset({"fused" if site.slice else "linear"})
        wanted = {"output", "tap"}
        if site.norm is not None and any(not m.original_ln_after for m in modules):
            wanted.add("norm")
        return frozenset(wanted)

    def install(self, wanted: frozenset[str]) -> None:
        """Add the missing hooks and take away the others."""
        for kind in [kind for kind in self._handles if kind not in wanted]:
            self._handles.pop(kind).remove()
        for kind in sorted(wanted - set(self._handles)):
            self._handles[kind] = self._register(kind)

    def _register(self, kind: str) -> Any:
        host = self.host
        if kind == "view":
            return ConfigView.install(host)
        if kind == "note":
            return host.register_forward_pre_hook(self.note_attention_input, with_kwargs=True)
        if kind == "tap":
            tap: Any = self._held[2]
            return tap.register_forward_pre_hook(self.tap_residual)
        if kind == "input":
            return host.register_forward_pre_hook(self.on_input)
        if kind == "norm":
            norm: Any = self.norm
            return norm.register_forward_hook(self.on_norm)
        hooks: dict[str, Callable[..., Any]] = {
            "output": self.on_output,
            "hidden": self.on_hidden,
            "linear": self.on_linear,
            "fused": self.on_fused,
        }
        return host.register_forward_hook(hooks[kind])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not called: a slot acts through its hooks."""
        raise RuntimeError("a Slot is not a layer")


__all__ = ["CHILD", "Site", "Slot", "attend"]
