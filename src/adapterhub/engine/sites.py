"""What hangs in the model: :class:`Site` under each host, one :class:`Slot` a place.

A slot owns the adapters' modules at one place and the hook methods. Hooks are bound methods of a
child module: they follow ``deepcopy`` and pickling, and cost no more than an edited ``forward``.
Only slots that the active setup uses have hooks at all.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedSite
from adapterhub.architectures.structure import on_interface
from adapterhub.context import local
from adapterhub.engine.attention import ConfigView, attend, bias_change
from adapterhub.engine.evaluate import run_on_keys
from adapterhub.engine.inline import Inline
from adapterhub.engine.places import placed
from adapterhub.engine.projected import Projected
from adapterhub.engine.recorded import RECORDED_INSIDE
from adapterhub.engine.shapes import act_on_sequences
from adapterhub.errors import CompositionError

#: Name under which a Site is registered in its host.
CHILD = "adapterhub"
_NUMBERS = itertools.count()
#: Arguments of an attention with these words in their names are not what queries and keys are made of.
_ASIDE = ("mask", "bias", "pos", "rel", "emb", "rot", "cos", "sin", "scale", "past")
#: Parts of an encoder-decoder's cache.
_CACHES = ("self", "cross")


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
        decoder: (not registered) the model's own map to the vocabulary, before which adapters of the
            input are undone, or ``None``.
    """

    def __init__(self, site: ResolvedSite) -> None:
        super().__init__()
        self.index = next(_NUMBERS)
        self.node: Any = None
        self.stacks: dict[Any, Any] = {}
        # Modules of the host model are held in a tuple: registered they would be saved twice.
        self._held = (site, site.host, site.residual)
        self.__dict__["norm"] = site.norm
        self.__dict__["decoder"] = None
        self.fusions = nn.ModuleDict()
        self._handles: dict[str, Any] = {}

    @property
    def site(self) -> ResolvedSite:
        return self._held[0]

    @property
    def host(self) -> nn.Module:
        return self._held[1]

    @property
    def norm_on(self) -> str:
        """What the model applies the norm to (``sum``, ``output``); ``""``: there is none, or to neither."""
        return self._held[0].norm_on if self.__dict__["norm"] is not None else ""

    @property
    def child_name(self) -> str:
        """Its name among the slots of its host."""
        key = self._held[0].key
        return f"{key.sublayer}_{key.point}" if self._held[0].repeated else key.point

    def adapter(self, name: str) -> Any:
        """Return the module of adapter *name* here, or ``None``."""
        return self._modules.get(name) if name != "fusions" else self._modules.get("fusions.")

    # -- hooks -------------------------------------------------------------------------------------

    def _current(self) -> Any:
        override = local.ctx.override
        return self.node if override is None else override.get(self.index, self.node)

    def _acting(self) -> Any:
        """The current node, for hidden states as they lie in the model."""
        return self._current()

    def tap_residual(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Pre-hook on the sub-layer's first module: note the residual."""
        local.ctx.residuals[self.index] = args[0]

    def tap_addend(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Post-hook on what is added to the residual before adapters see it."""
        noted = local.ctx.residuals
        addend = output[0] if isinstance(output, tuple) else output
        noted[self.index] = noted[self.index] + addend

    def on_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Post-hook on the host of a residual site (``out``)."""
        ctx = local.ctx
        node = self.node if ctx.override is None else ctx.override.get(self.index, self.node)
        return self.change_output(node, ctx.residuals.pop(self.index, None), output)

    def change_output(self, node: Any, residual: torch.Tensor | None, output: Any) -> Any:
        """Return what *node* makes of the output of a residual site."""
        if node is None or (residual is None and self._held[0].repeated):
            return None
        plural = isinstance(output, tuple | list)
        h = output[0] if plural else output
        if residual is None or h.dim() == residual.dim():
            h = node.act(h, residual)
        else:  # mixtures of experts take the batch apart into single positions
            h = node.act(h.view(residual.shape), residual).view(h.shape)
        if not plural:
            return h
        return [h, *output[1:]] if isinstance(output, list) else (h, *output[1:])

    def on_swapped(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """As :meth:`on_output`, where adapters take residual and output for each other."""
        residual = local.ctx.residuals.pop(self.index, None)
        node = self._acting()
        if node is None:
            return None
        # The model goes on with N(. + residual), and is to get N(adapted residual + output).
        return node.act(residual, output) + (output - residual)

    def on_linear(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on a projection."""
        override = local.ctx.override
        node = self.node if override is None else override.get(self.index, self.node)
        return None if node is None else node.act(output, args[0])

    def on_hidden(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Post-hook on the embeddings, whose output is a tensor or begins with one."""
        node = self._acting()
        if node is None:
            return None
        if isinstance(output, tuple):
            return (node.act(output[0], None), *output[1:])
        return node.act(output, None)

    def on_embedding(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook on the embeddings: they see ids and masks without places for prompts."""
        made = local.ctx.prompts.get(self.index)
        if made is None:
            return None
        args = tuple(made.without(value) for value in args)
        return args, {name: made.without(value) for name, value in kwargs.items()}

    def on_embedded(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Post-hook on the embeddings: insert the prompts."""
        made = local.ctx.prompts.pop(self.index, None)
        if made is None:
            return None
        if isinstance(output, tuple):
            return (made.insert(output[0]), *output[1:])
        return made.insert(output)

    def on_decoder(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Pre-hook on the map to the vocabulary: undo the adapters of the embeddings."""
        node = self._current()
        return None if node is None else (node.family.undo(node, self, args[0]), *args[1:])

    def on_placed(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on the token embeddings: put the prompts at their places."""
        made = local.ctx.prompts.get(self.index)
        changed = None if made is None else placed(made, output)
        if changed is not None:
            del local.ctx.prompts[self.index]
        return changed

    def on_prompted_block(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Pre-hook on every block behind prompts: make room for them in a mask over positions."""
        made = local.ctx.cache.get(("prompt", self.index))
        if made is None:
            return None
        h = _first_input(args, kwargs)[1]
        changed = {name: made.widen_square(value, h) for name, value in kwargs.items()}
        return tuple(made.widen_square(value, h) for value in args), changed

    def on_first_block(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Pre-hook on the first block: insert the prompts into its input."""
        made = local.ctx.prompts.pop(self.index, None)
        if made is None:
            return None
        local.ctx.cache["prompt", self.index] = made
        name, x = _first_input(args, kwargs)
        if not name:
            return (made.insert(x), *args[1:]), kwargs
        return args, {**kwargs, name: made.insert(x)}

    def on_block(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Post-hook on a block, whose output is a tensor or begins with one."""
        node = self._acting()
        if node is None:
            return None
        plural = isinstance(output, tuple | list)
        before = output[0] if plural else output
        if before.dim() == 3:
            after = node.act(before, None)
        else:
            width = self._held[0].out_features
            after = act_on_sequences(lambda h: node.act(h, None), before, width)
        if RECORDED_INSIDE:
            local.ctx.superseded.append((before, after))
        if not plural:
            return after
        return [after, *output[1:]] if isinstance(output, list) else (after, *output[1:])

    def on_fused(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on a fused projection: only this part of the output changes."""
        node = self._acting()
        if node is None:
            return None
        site = self._held[0]
        start, stop = site.slice  # type: ignore[misc]
        if site.blocks > 1:
            pieces = output.reshape(*output.shape[:-1], site.blocks, -1)
            part = node.act(pieces[..., start:stop].flatten(-2), args[0])
            part = part.reshape(*part.shape[:-1], site.blocks, -1)
            return torch.slice_scatter(pieces, part, -1, start, stop).flatten(-2)
        part = node.act(output[..., start:stop], args[0])
        return torch.slice_scatter(output, part, -1, start, stop)

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook: the place is the host's first input."""
        node = self._acting()
        if node is None:
            return None
        name, x = _first_input(args, kwargs)
        if not name:
            return (node.act(x, x), *args[1:]), kwargs
        return args, {**kwargs, name: node.act(x, x)}

    def on_norm(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        """Post-hook on the norm after the addition: give way to a final value (original_ln_after=False)."""
        return local.ctx.replacements.pop(self.index, None)

    def note_attention_input(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Pre-hook on an attention: note its input (for gates) and what its cache holds (for biases)."""
        ctx = local.ctx
        ctx.residuals[self.index] = _first_input(args, kwargs)[1]
        cache = kwargs.get("past_key_values")
        if cache is not None and self.site.bias_host is not None:
            seen = cache.get_seq_length(getattr(module, "layer_idx", 0))
            ctx.cache["seen", self.index] = seen.clone() if isinstance(seen, torch.Tensor) else seen

    def begin_inline(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Pre-hook on an attention that computes its scores itself: follow them."""
        ctx, site, node = local.ctx, self.site, self._current()
        if node is None:
            return

        def prefix(key: torch.Tensor) -> Any:
            noted = ctx.residuals.pop(self.index, None)
            state = run_on_keys(node, self, key, node.family.begin(key, noted, key.shape[2]))
            if state.valid is not None and state.valid.dim() == 3:
                raise CompositionError(
                    f"Split at {site.key}: {type(module).__name__} computes its scores itself, and there a "
                    "prefix can only be seen by all positions; use BatchSplit or Parallel."
                )
            return (state.k, state.v, state.valid) if state.k.shape[2] else None

        def bias(scores: torch.Tensor, length: int, valid: torch.Tensor | None) -> Any:
            return bias_change(self, scores, length, valid, ctx)

        shape = (site.kv_heads, site.head_dim)
        streams = _streams(module, args, kwargs)
        mode = Inline(
            type(module).__name__, streams, prefix, shape, bias if site.bias_host else None
        )
        ctx.cache["inline", self.index] = mode
        mode.__enter__()

    def end_inline(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Post-hook, also after an error: stop following."""
        mode = local.ctx.cache.pop(("inline", self.index), None)
        if mode is not None:
            mode.__exit__(None, None, None)
            if output is not None:
                mode.finish()

    def begin_projected(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Pre-hook on an attention that does not run its projections: see that it does."""
        cache = local.ctx.cache
        if ("projected", id(module)) not in cache:  # (one of the slots does it for all)
            mode = cache["projected", id(module)] = Projected(module)
            cache["projected by", id(module)] = self.index
            mode.__enter__()

    def end_projected(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Post-hook, also after an error: let it be again."""
        cache = local.ctx.cache
        if cache.get(("projected by", id(module))) == self.index:
            del cache["projected by", id(module)]
            cache.pop(("projected", id(module))).__exit__(None, None, None)

    def before_experts(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Pre-hook on a mixture of experts: run it with changed weights, and spare it its own run."""
        ctx = local.ctx
        residual = ctx.residuals.pop(self.index, None)
        node = self._current()
        if node is None:
            return None
        given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        x = next(iter(given.values()))
        rows: tuple[int, int, int] | None = None
        if x.dim() == 2:  # tokens of all rows, one after the other, maybe once for each expert
            rows = (1, 1, x.shape[0])
            if residual is not None and residual.dim() == 3:
                copies, left = divmod(x.shape[0], residual.shape[:-1].numel())
                rows = rows if left else (copies, *residual.shape[:2])

        def mapped(change: Callable[[torch.Tensor], torch.Tensor]) -> dict[int | str, Any]:
            return {
                name: change(value)
                if isinstance(value, torch.Tensor) and value.shape[:1] == x.shape[:1]
                else value
                for name, value in given.items()
            }

        shaped = given
        if rows is not None:  # (batch, positions, copies, ...)
            shaped = mapped(lambda value: value.unflatten(0, rows).movedim(0, 2))
        state = node.run(node.family.begin(shaped, rows is not None), self)
        y = node.family.end(state, self)
        ctx.replacements[self.index] = y if rows is None else y.movedim(2, 0).flatten(0, 2)
        if rows is None:
            return None
        # Its own output is not needed: one token will do, for each copy.
        few = mapped(lambda value: value.unflatten(0, (rows[0], -1))[:, :1].flatten(0, 1))
        return tuple(few[i] for i in range(len(args))), {name: few[name] for name in kwargs}

    def after_experts(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Post-hook on a mixture of experts: the output with changed weights."""
        return local.ctx.replacements.pop(self.index, None)

    # -- installing --------------------------------------------------------------------------------

    def needs(self, modules: list[Any]) -> frozenset[str]:
        """Return which hooks a setup with *modules* at this place needs."""
        site = self.site
        point = site.key.point
        if point == "kv":
            if site.handed_by is not None:
                return frozenset({"projected"})
            gated = any(module.gated for module in modules)
            way = "view" if on_interface(site.host) else "inline"
            return frozenset({way, "note"} if gated or site.bias_host is not None else {way})
        if point == "embed":
            kind = "input" if site.at_input else "hidden"
            undone = self.decoder is not None and any(hasattr(m.family, "undo") for m in modules)
            return frozenset({kind, "undo"} if undone else {kind})
        if site.at_input:
            return frozenset({"input"})
        if site.key.sublayer == "layer":
            return frozenset({"block"})
        if point == "experts":
            return frozenset({"experts", "tap"} if site.residual is not None else {"experts"})
        if point == "prompt":  # the boundary does the rest
            if site.insert_before is not None:
                return frozenset({"prompt_block", "prompted_blocks"})
            if site.placed is not None:
                return frozenset({"place"})
            return frozenset({"prompt", "unmask"} if site.insert_after is not None else ())
        if point != "out":
            how = "fused" if site.slice else "linear"
            return frozenset({how} if site.handed_by is None else {how, "projected"})
        wanted = {"swapped" if site.swapped else "output", "tap"}
        if site.residual_plus is not None:
            wanted.add("plus")
        if self.norm_on and any(not m.original_ln_after for m in modules):
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
        if kind == "projected":
            attention: Any = self.site.handed_by
            return _Handles(
                attention.register_forward_pre_hook(self.begin_projected),
                attention.register_forward_hook(self.end_projected, always_call=True),
            )
        if kind == "experts":
            return _Handles(
                host.register_forward_pre_hook(self.before_experts, with_kwargs=True),
                host.register_forward_hook(self.after_experts),
            )
        if kind == "inline":
            return _Handles(
                host.register_forward_pre_hook(self.begin_inline, with_kwargs=True),
                host.register_forward_hook(self.end_inline, always_call=True),
            )
        if kind == "note":
            return host.register_forward_pre_hook(self.note_attention_input, with_kwargs=True)
        if kind == "tap":
            tap: Any = self._held[2]
            return tap.register_forward_pre_hook(self.tap_residual)
        if kind == "plus":
            addend: Any = self.site.residual_plus
            return addend.register_forward_hook(self.tap_addend)
        if kind == "input":
            return host.register_forward_pre_hook(self.on_input, with_kwargs=True)
        if kind == "prompt":
            inner: Any = self.site.insert_after
            return inner.register_forward_hook(self.on_embedded)
        if kind == "prompted_blocks":
            hook, blocks = self.on_prompted_block, self.site.blocks_after
            return _Handles(*(b.register_forward_pre_hook(hook, with_kwargs=True) for b in blocks))
        if kind == "place":
            return self.site.placed.register_forward_hook(self.on_placed)  # type: ignore[union-attr]
        if kind == "prompt_block":
            block: Any = self.site.insert_before
            return block.register_forward_pre_hook(self.on_first_block, with_kwargs=True)
        if kind == "unmask":
            inner = self.site.insert_after
            return inner.register_forward_pre_hook(self.on_embedding, with_kwargs=True)
        if kind == "hidden":  # before prompts are inserted
            return host.register_forward_hook(self.on_hidden, prepend=True)
        if kind == "undo":
            decoder: Any = self.decoder
            return decoder.register_forward_pre_hook(self.on_decoder)
        if kind == "block":  # before transformers' own hook, which records hidden states
            return host.register_forward_hook(self.on_block, prepend=True)
        if kind == "norm":
            norm: Any = self.norm
            return norm.register_forward_hook(self.on_norm)
        if kind == "output":  # before others that read this output
            return host.register_forward_hook(self.on_output, prepend=True)
        hooks: dict[str, Callable[..., Any]] = {
            "swapped": self.on_swapped,
            "linear": self.on_linear,
            "fused": self.on_fused,
        }
        return host.register_forward_hook(hooks[kind])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not called: a slot acts through its hooks."""
        raise RuntimeError("a Slot is not a layer")


def _first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
    """Return the first input of a call and the name it was given by, ``""`` for none."""
    return ("", args[0]) if args else next(iter(kwargs.items()))


def _streams(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """Return what an attention makes queries, keys and values of, among its arguments."""
    names = [n for n in inspect.signature(module.forward).parameters if n not in ("args", "kwargs")]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    found = [
        value
        for name, value in given.items()
        if isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.dim() > 2
        and not any(word in name for word in _ASIDE)
    ]
    return [*found, *_cached(module, given.values())]


def _cached(module: nn.Module, given: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield the keys and values that an attention finds in its caches, as cross-attentions do."""
    number = getattr(module, "layer_idx", None)
    if not isinstance(number, int):
        return
    for cache in given:
        for part in (cache, *(getattr(cache, f"{kind}_attention_cache", None) for kind in _CACHES)):
            layers = getattr(part, "layers", None)
            if isinstance(layers, list) and number < len(layers):
                pair = (getattr(layers[number], name, None) for name in ("keys", "values"))
                yield from (value for value in pair if isinstance(value, torch.Tensor))


class _Handles:
    """Several hook handles as one."""

    def __init__(self, *handles: Any) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


__all__ = ["CHILD", "Site", "Slot", "attend"]
