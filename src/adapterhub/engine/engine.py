"""The engine of one model: its sites, its adapters, what is active, and how to undo it all."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch._dynamo.config
from torch import nn
from transformers import PreTrainedModel

from adapterhub.architectures import ResolvedModel, Row, SiteKey, resolve
from adapterhub.architectures.structure import on_interface, scores_inline
from adapterhub.composition import AdapterCompositionBlock, Fuse, Route, Stack, names_in, width
from adapterhub.context import Context, current, using
from adapterhub.engine import evaluate
from adapterhub.engine.boundary import (
    Boundary,
    CheckpointInContext,
    prompt_facts,
    replicate_inputs,
)
from adapterhub.engine.instance import Generate, IgnoredKeys
from adapterhub.engine.layouts import TurnedSlot
from adapterhub.engine.numbering import counted, counts_by_mask
from adapterhub.engine.prompted import prompted
from adapterhub.engine.prompts import expect_growing_cache
from adapterhub.engine.records import AdapterRecord, FusionRecord, Plan
from adapterhub.engine.sites import CHILD, Site, Slot
from adapterhub.engine.tokens import TokenRows
from adapterhub.errors import (
    AdapterHubError,
    ArchitectureError,
    CompositionError,
    UnknownAdapterError,
    did_you_mean,
)
from adapterhub.methods.hosts import merging

_LOCK = threading.RLock()

# Activation adds and removes hooks. By default dynamo assumes that nobody does after compiling, and would go
# on running the graph of the setup it compiled first; so it has to look.
torch._dynamo.config.skip_nnmodule_hook_guards = False


class Engine:
    """Everything adapterhub keeps about one model.

    Args:
        model: a Hugging Face model.
        row: its family's row; default: from the table, else detected.
    """

    def __init__(self, model: nn.Module, row: Row | None = None) -> None:
        if getattr(model, "_hf_peft_config_loaded", False):
            raise ArchitectureError(
                f"{type(model).__name__} already carries PEFT adapters; unload them first."
            )
        self.model = model
        self.resolved: ResolvedModel = resolve(model, row)
        self.adapters: dict[str, AdapterRecord] = {}
        self.fusions: dict[str, FusionRecord] = {}
        self.slots: dict[SiteKey, Slot] = {}
        self.active: Plan | None = None
        #: The model has heads of ours, which want the batch as it was given.
        self.own_heads = False
        #: Name of the adapter that is folded into the base weights, if any.
        self.merged: str | None = None
        #: The setup that waits while an adapter is merged.
        self.paused: Plan | None = None
        #: Groups of adapters that share parameters, by name.
        self.sharing: dict[str, tuple[str, ...]] = {}
        #: Rows trained on top of the embeddings, if any.
        self.token_rows: TokenRows | None = None
        self._unmerged: list[tuple[nn.Module, str, torch.Tensor]] = []
        self._plans: dict[tuple[Any, frozenset[int]], Plan] = {}
        self._visiting: dict[int, Plan] = {}
        self._boundary = Boundary(self)
        self._boundary_handles: list[Any] = []
        self._checkpointed: list[nn.Module] = []
        self._checkpointable: list[nn.Module] | None = None
        self._keys = IgnoredKeys(self)
        #: The model's own entry, if it has one (some releases have it in the class only).
        self._keys_before = {
            name: value for name, value in vars(model).items() if name == "_keys_to_ignore_on_save"
        }
        if isinstance(model, PreTrainedModel):
            self._keys.base = set(model._keys_to_ignore_on_save or ())
            model._keys_to_ignore_on_save = self._keys  # type: ignore[assignment]
        if hasattr(type(model), "generate"):
            model.__dict__["generate"] = Generate(self)

    # -- adding and removing -----------------------------------------------------------------------

    def slot_for(self, key: SiteKey) -> Slot:
        """Return the slot at *key*, hanging it into the model if it is the first use."""
        slot = self.slots.get(key)
        if slot is None:
            site = self.resolved.sites[key]
            holder = site.host._modules.get(CHILD)
            if holder is None:
                holder = Site()
                holder.train(site.host.training)
                site.host._modules[CHILD] = holder
            slot = TurnedSlot(site) if site.layout else Slot(site)
            if key.point == "embed" and not self.own_heads:
                slot.__dict__["decoder"] = self._decoder(site.out_features)
            slot.train(site.host.training)
            holder._modules[slot.child_name] = slot
            self.slots[key] = slot
        return slot

    def _decoder(self, width: int) -> nn.Module | None:
        """Return the model's own map from states of *width* to the vocabulary, if it has one."""
        try:
            found: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        except (AttributeError, NotImplementedError):
            return None
        return found if getattr(found, "in_features", None) == width else None

    def add(self, record: AdapterRecord) -> None:
        """Put a finished adapter into the model. All checks come before the first change."""
        self.check(record)
        for key, module in record.modules.items():
            slot = self.slot_for(key)
            module.train(slot.host.training)
            slot._modules[record.name if record.name != "fusions" else "fusions."] = module
        if record.shared:
            holder = self.resolved.base._modules.setdefault(CHILD, Site())
            shared = holder._modules.setdefault("shared", nn.Module())  # type: ignore[union-attr]
            shared._modules[record.name] = nn.ModuleDict(record.shared)  # type: ignore[union-attr]
            shared.train(self.resolved.base.training)  # type: ignore[union-attr]
        self.adapters[record.name] = record
        self._forget_plans(record.name)

    def check(self, record: AdapterRecord) -> None:
        """Check that the model has what the modules of an adapter need beside their places.

        Raises:
            ArchitectureError: no attention interface for prefixes, no residual for bottlenecks.
        """
        for key in record.modules:
            site = self.resolved.sites[key]
            followed = site.handed_by is not None or on_interface(site.host)
            if key.point == "kv" and not (followed or scores_inline(site.host)):
                raise ArchitectureError(
                    f"{type(site.host).__name__} has no softmax over keys that could be seen, so prefix "
                    f"tuning cannot act at {key}; use another method, or leave_out."
                )
            if site.residual is None and record.modules[key].family.needs_residual:  # type: ignore[union-attr]
                raise ArchitectureError(
                    f"The row of '{self.resolved.row.model_type}' names no module that receives the "
                    f"residual at {key}, so a bottleneck cannot act there; pass a row with it, or use LoRA."
                )

    def remove(self, name: str) -> None:
        """Take an adapter out of the model, with every slot that is empty then."""
        record = self.adapters.pop(name)
        if self.active is not None and name in names_in(self.active.tree):
            self.activate(None)
        self._forget_plans(name)
        for group, sharers in list(self.sharing.items()):
            left = tuple(other for other in sharers if other != name)
            self.sharing[group] = left
            if len(left) < 2:
                del self.sharing[group]
        for key in record.modules:
            slot = self.slots[key]
            slot._modules.pop(name if name != "fusions" else "fusions.", None)
            slot.stacks.clear()
        holder = self.resolved.base._modules.get(CHILD)
        if record.shared and holder is not None:
            shared: Any = holder._modules["shared"]
            shared._modules.pop(name, None)
            if not shared._modules:
                holder._modules.pop("shared")
        self._drop_empty()

    def add_fusion(self, record: FusionRecord) -> None:
        """Put a finished fusion layer into the model."""
        for key, module in record.modules.items():
            slot = self.slot_for(key)
            module.train(slot.host.training)
            slot.fusions._modules[record.name] = module
        self.fusions[record.name] = record
        self._plans.clear()

    def remove_fusion(self, name: str) -> None:
        """Take a fusion layer out of the model."""
        record = self.fusions.pop(name)
        if self.active is not None and any(
            isinstance(node, Fuse) and node.name == name for node in _walk(self.active.tree)
        ):
            self.activate(None)
        for key in record.modules:
            self.slots[key].fusions._modules.pop(name, None)
        self._plans.clear()

    def _drop_empty(self) -> None:
        for key, slot in list(self.slots.items()):
            if len(slot._modules) == 1 and not slot.fusions._modules:
                slot.install(frozenset())
                holder: Any = slot.host._modules[CHILD]
                holder._modules.pop(slot.child_name)
                del self.slots[key]
                if not holder._modules:
                    del slot.host._modules[CHILD]
        holder = self.resolved.base._modules.get(CHILD)
        if holder is not None and not holder._modules:
            del self.resolved.base._modules[CHILD]

    def detach(self) -> None:
        """Undo everything: hooks, children, config views, checkpoint wrappers."""
        if self.merged is not None:
            self.unmerge()
        self.activate(None)
        for name in list(self.fusions):
            self.remove_fusion(name)
        for name in list(self.adapters):
            self.remove(name)
        for module in self._checkpointed:
            function = getattr(module, "_gradient_checkpointing_func", None)
            if isinstance(function, CheckpointInContext):
                module._gradient_checkpointing_func = function.function  # type: ignore[assignment]
        self._checkpointed.clear()
        if isinstance(self.model, PreTrainedModel):
            self.model.__dict__.pop("_keys_to_ignore_on_save", None)
            self.model.__dict__.update(self._keys_before)
        self.model.__dict__.pop("generate", None)

    # -- activating --------------------------------------------------------------------------------

    def plan(
        self, tree: AdapterCompositionBlock | None, skip_layers: frozenset[int] = frozenset()
    ) -> Plan:
        """Compile *tree*, or return the plan compiled before.

        Raises:
            UnknownAdapterError: a name that is not loaded. CompositionError: no meaning at some place.
        """
        key = (tree, skip_layers)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) > 4096:
                self._plans.clear()
            found = self._plans[key] = self._compile(tree, skip_layers)
        return found

    def plan_or_refusal(self, tree: AdapterCompositionBlock | None) -> Plan:
        """Return what :meth:`plan` does, or a plan with its error as the refusal."""
        try:
            return self.plan(tree)
        except AdapterHubError as error:
            return Plan(tree, frozenset(), (), {}, width(tree), refusal=error.with_traceback(None))

    def _compile(self, tree: AdapterCompositionBlock | None, skip_layers: frozenset[int]) -> Plan:
        names = list(dict.fromkeys(names_in(tree)))
        for name in names:
            if name not in self.adapters:
                raise UnknownAdapterError(
                    f"No adapter '{name}' in this {type(self.model).__name__}; loaded: "
                    f"{', '.join(sorted(self.adapters)) or 'none'}.{did_you_mean(name, self.adapters)}"
                )
        keys = {key: None for name in names for key in self.adapters[name].modules}
        nodes, hooks = [], {}
        for key in keys:
            slot = self.slots[key]
            if slot.site.layer_id in skip_layers:
                continue
            node = evaluate.compile_node(tree, slot, self._fusion_of)
            if node is None:
                continue
            nodes.append((slot, evaluate.finish(node, slot)))
            hooks[slot.index] = slot.needs(list(node.modules))
        located = any(node.family.needs_positions for _, node in nodes)
        prompts = tuple((slot, node) for slot, node in nodes if node.family.prompts)
        for slot, _ in prompts:
            counts_by_mask(type(slot.host))
        return Plan(
            tree,
            skip_layers,
            tuple(nodes),
            hooks,
            width(tree),
            located=located,
            by_rows=any(not isinstance(block, Stack) for block in _walk(tree))
            or any(evaluate.tells_rows_apart(node) for _, node in nodes),
            prompts=prompts,
        )

    def _fusion_of(self, slot: Slot, block: Fuse) -> nn.Module | None:
        record = self.fusions.get(block.name)
        if record is None:
            raise UnknownAdapterError(
                f"No fusion layer '{block.name}' for {block!r}; add it with add_adapter_fusion({block!r}) "
                f"or load it. There are: {', '.join(self.fusions) or 'none'}."
            )
        module = record.modules.get(slot.site.key)
        if module is None:
            there = [name for name in record.adapters if slot.adapter(name) is not None]
            raise CompositionError(
                f"Fusion '{block.name}' has no layer at {slot.site.key}, where only {', '.join(there)} "
                "of its adapters has a module; fuse adapters with the same places."
            )
        return module

    def activate(
        self, tree: AdapterCompositionBlock | None, skip_layers: Sequence[int] | None = None
    ) -> None:
        """Make *tree* the model's setup; ``None``: the bare base model, without a hook left."""
        plan = None
        if tree is not None:
            plan = self.plan(tree, frozenset(skip_layers) if skip_layers else frozenset())
        old = self.active
        if plan is old:
            return
        same = plan is not None and old is not None and plan.hooks == old.hooks
        if not same or self._visiting:
            with _LOCK:
                self._install(plan)
        if old is not None and not same:
            for slot, _ in old.nodes:
                slot.__dict__["node"] = None
        if plan is not None:
            for slot, node in plan.nodes:
                slot.__dict__["node"] = node
        self.active = plan

    def _install(self, plan: Plan | None) -> None:
        """Bring the hooks into line with *plan* and the setups that threads are visiting with."""
        wanted: dict[int, frozenset[str]] = dict(plan.hooks) if plan is not None else {}
        for visitor in self._visiting.values():
            for index, kinds in visitor.hooks.items():
                wanted[index] = wanted.get(index, frozenset()) | kinds
        for slot in self.slots.values():
            slot.install(wanted.get(slot.index, frozenset()))
        if self.token_rows is not None:  # they come before whatever was hooked just now
            self.token_rows.rehang(self.model)
        needed = wanted or any(visitor.refusal for visitor in self._visiting.values())
        if needed and not self._boundary_handles:
            self._boundary_handles = self._boundary.install(self.boundaries())
        elif not needed and self._boundary_handles:
            for handle in self._boundary_handles:
                handle.remove()
            self._boundary_handles = []

    def boundaries(self) -> list[nn.Module]:
        """Return the modules where a forward pass may begin."""
        inner = [
            m
            for m in self.model.modules()
            if isinstance(m, PreTrainedModel) and m is not self.model
        ]
        return [self.model, *inner]

    def visit(self, plan: Plan, ctx: Context) -> None:
        """Let the thread that runs in *ctx* use *plan* instead of the model's setup."""
        nodes = dict.fromkeys(slot.index for slot in self.slots.values())
        nodes.update({slot.index: node for slot, node in plan.nodes})
        ctx.override = {**(ctx.override or {}), **nodes}
        ctx.override_plans = {**(ctx.override_plans or {}), id(self): plan}
        with _LOCK:
            self._visiting[id(ctx)] = plan
            self._install(self.active)

    def leave(self, ctx: Context) -> None:
        """End a visit. The hooks stay until the next activation: another thread may be running."""
        with _LOCK:
            self._visiting.pop(id(ctx), None)
            if not self._visiting:
                self._install(self.active)

    def _forget_plans(self, name: str) -> None:
        stale = [key for key in self._plans if name in names_in(key[0])]
        for key in stale:
            del self._plans[key]

    # -- what the boundary asks --------------------------------------------------------------------

    def channels(self, ctx: Context) -> int:
        """Return how many copies of the batch the setup in force needs."""
        plan = self.plan_in(ctx)
        return 1 if plan is None else plan.width

    def plan_in(self, ctx: Context) -> Plan | None:
        """Return the plan in force for a thread that runs in *ctx*.

        Raises:
            AdapterHubError: the thread's setup is one that this model cannot run.
        """
        if ctx.override_plans is not None and id(self) in ctx.override_plans:
            plan = ctx.override_plans[id(self)]
            if plan.refusal is not None:
                raise plan.refusal
            return plan
        return self.active

    def replicates_at(self, module: nn.Module) -> bool:
        """Whether the batch is replicated at *module*: heads of ours want the original batch."""
        return not (self.own_heads and module is self.model)

    def rows_tensor(self, rows: Any) -> torch.Tensor:
        """Turn indices or child names into the (batch,) routing tensor."""
        if isinstance(rows, torch.Tensor):
            return rows
        rows = list(rows)
        if any(isinstance(row, str) or row is None for row in rows):
            names = self._route_children()
            unknown = [row for row in rows if isinstance(row, str) and row not in names]
            if unknown:
                raise UnknownAdapterError(
                    f"adapter_rows names '{unknown[0]}', which is no child of the active Route "
                    f"({', '.join(map(str, names))}).{did_you_mean(unknown[0], [n for n in names if n])}"
                )
            rows = [
                -1 if row is None else names.index(row) if isinstance(row, str) else row
                for row in rows
            ]
        return torch.tensor(rows, dtype=torch.int64, device=self.resolved.device())

    def _route_children(self) -> list[str | None]:
        plan = self.plan_in(current())
        for node in _walk(plan.tree if plan is not None else None):
            if isinstance(node, Route):
                return [c if isinstance(c, str) or c is None else c.last() for c in node.children]
        raise CompositionError("adapter_rows was given, but the active setup has no Route.")

    def prepare_checkpointing(self) -> None:
        """Wrap the checkpoint functions, if gradient checkpointing is on, to recompute in context."""
        if torch.compiler.is_compiling() or not self.model.training:
            return
        if (
            self._checkpointable is None
        ):  # (not just the layers, and not all of them: towers differ)
            having = (m for m in self.model.modules() if hasattr(m, "gradient_checkpointing"))
            self._checkpointable = list(having)
        for module in self._checkpointable:
            function = module.__dict__.get("_gradient_checkpointing_func")
            if function is not None and not isinstance(function, CheckpointInContext):
                module._gradient_checkpointing_func = CheckpointInContext(function)  # type: ignore[assignment]
                self._checkpointed.append(module)

    def generate(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call *original* (``model.generate``) so that rows follow beams and Parallel its channels."""
        ctx = current().apart(expandable=True)
        rows = kwargs.pop("adapter_rows", None)
        if rows is not None:
            ctx.rows = self.rows_tensor(rows)
        channels = self.channels(ctx)
        if channels > 1 and not kwargs.pop("adapter_input_parallelized", False):
            args, kwargs = replicate_inputs(args, kwargs, channels)
        ctx.replicated = True
        plan = self.plan_in(ctx)
        if plan is not None and plan.prompts:
            args, kwargs = self._prompted(plan, ctx, args, kwargs)
        ctx.prompt = prompt_facts(args, kwargs)
        with using(ctx):
            return original(*args, **kwargs)

    def _prompted(
        self, plan: Plan, ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Insert prompts before a generation starts, so that its cache is as long as it has to be.

        That needs a cache and token embeddings; without, every forward pass inserts them.
        """
        model: Any = self.model
        slot, node = plan.prompts[0]
        settings = kwargs.get("generation_config") or model.generation_config
        cached = kwargs.get("use_cache", settings.use_cache)
        ids = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
        known = kwargs.get("inputs_embeds") is None and isinstance(ids, torch.Tensor)
        inside = slot.site.insert_after is not None or slot.site.placed is not None
        if inside and cached is not False:
            expect_growing_cache(
                model, kwargs.get("cache_implementation", settings.cache_implementation)
            )
        simple = not inside and not model.config.is_encoder_decoder
        simple = (
            simple
            and "inputs_embeds" in inspect.signature(model.prepare_inputs_for_generation).parameters
        )
        if not (cached is not False and known and simple and ids.dim() == 2 and ids.shape[1]):  # type: ignore[union-attr]
            return args, kwargs
        rows: Any = ids
        mask = kwargs.get("attention_mask")
        with using(ctx):
            made = prompted(node, slot, rows.shape[0])
        if mask is None:
            mask = torch.ones_like(rows)
        made.mask, embeds = mask, model.get_input_embeddings()(rows)
        kwargs = {k: v for k, v in kwargs.items() if k not in ("input_ids", "inputs")}
        where = kwargs.get("position_ids")
        if where is None and bool((mask[:, -1] == 0).any()):
            where = counted(model, mask)
        if where is not None:
            kwargs["position_ids"] = made.number(where)
        kwargs.update(
            input_ids=rows, inputs_embeds=made.insert(embeds), attention_mask=made.widen(mask)
        )
        ctx.prompted = True
        return (), kwargs

    # -- merging -----------------------------------------------------------------------------------

    def merge(self, name: str) -> None:
        """Put the work of an adapter into the weights of its hosts; what was there is kept, bit for bit."""
        record = self.adapters[name]
        self._check_untied(record)
        kept: dict[tuple[int, str], tuple[nn.Module, str, torch.Tensor]] = {}
        with torch.no_grad():
            for key, module in record.modules.items():
                site = self.resolved.sites[key]
                for attribute, write in merging(site, module, self.slots[key]):
                    if (id(site.host), attribute) not in kept:
                        now = getattr(site.host, attribute).detach().clone()
                        kept[id(site.host), attribute] = (site.host, attribute, now)
                    write()
        self.merged, self._unmerged = name, list(kept.values())
        waiting = self.active
        self.activate(None)
        self.paused = waiting

    def _check_untied(self, record: AdapterRecord) -> None:
        """Refuse to change weights that another module has too and the adapter does not act on."""
        owners: dict[int, list[str]] = {}
        for path, module in self.model.named_modules():  # (one path a module)
            for name, parameter in module._parameters.items():
                owners.setdefault(id(parameter), []).append(f"{path}.{name}")
        for key in record.modules:
            for parameter in self.resolved.sites[key].host._parameters.values():
                paths = owners[id(parameter)] if parameter is not None else []
                if len(paths) > 1:
                    raise ArchitectureError(
                        f"'{record.name}' cannot be merged: its place {key} shares a weight with another "
                        f"module ({', '.join(paths)}), which would change too. Untie them, or leave the "
                        "adapter active."
                    )

    def unmerge(self) -> None:
        """Put back the weights and the setup as they were before :meth:`merge`."""
        with torch.no_grad():
            for host, attribute, value in self._unmerged:
                getattr(host, attribute).copy_(value)
        waiting, self.merged, self._unmerged, self.paused = self.paused, None, [], None
        if waiting is not None and self.active is None:
            self.activate(waiting.tree, tuple(waiting.skip_layers))


def _walk(node: Any) -> Iterator[Any]:
    if isinstance(node, AdapterCompositionBlock):
        yield node
        for child in node.children:
            yield from _walk(child)
