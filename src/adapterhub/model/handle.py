"""The explicit face: :func:`attach` and :class:`AdapterHandle`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import Row
from adapterhub.checkpoints import adapters as files
from adapterhub.checkpoints.fusions import build_fusion
from adapterhub.composition import AdapterCompositionBlock, Fuse, names_in, parse_composition
from adapterhub.configs import AdapterFusionConfig, resolve_config
from adapterhub.engine import AdapterRecord, Engine, FusionRecord
from adapterhub.engine.collect import location_name
from adapterhub.engine.sites import CHILD
from adapterhub.errors import ConfigError, UnknownAdapterError, did_you_mean
from adapterhub.methods import build, members, method_for
from adapterhub.model.averaging import HandleAveraging
from adapterhub.model.embeddings import HandleEmbeddings, Rows
from adapterhub.model.files import check_name
from adapterhub.model.flags import Flags
from adapterhub.model.invertibles import HandleInvertibles
from adapterhub.model.own import HandleOwnAdapters
from adapterhub.model.parameters import HandleParameters
from adapterhub.model.places import HandlePlaces
from adapterhub.model.publishing import HandlePublishing
from adapterhub.model.setup import ENGINES, routing
from adapterhub.model.starting import HandleStarting
from adapterhub.model.summary import summary
from adapterhub.plugins import load_plugins


def attach(model: nn.Module, row: Row | None = None) -> AdapterHandle:
    """Make *model* ready for adapters and return its handle; its class and weights stay as they are.

    Args:
        model: any Hugging Face model.
        row: where things are in it; default: from the table, else detected.

    Raises:
        ArchitectureError: nothing recognised, or the model carries PEFT adapters.
    """
    handle = model.__dict__.get("_adapterhub")
    if handle is None:
        load_plugins()
        handle = AdapterHandle(model, row)
        model.__dict__["_adapterhub"] = handle
    return handle


class AdapterHandle(
    HandlePublishing,
    HandleAveraging,
    HandleParameters,
    HandlePlaces,
    HandleInvertibles,
    HandleOwnAdapters,
    HandleEmbeddings,
    HandleStarting,
):
    """Everything one can do with the adapters of one model.

    The methods carry the names of the ``adapters`` library; :func:`adapterhub.init` puts them on the
    model itself.
    """

    def __init__(self, model: nn.Module, row: Row | None = None) -> None:
        self.engine = Engine(model, row)
        self.engine.own_heads = hasattr(model, "head_tensors")
        self.flags = Flags()
        ENGINES.add(self.engine)

    def __deepcopy__(self, memo: dict[int, Any]) -> AdapterHandle:
        import copy

        twin = object.__new__(AdapterHandle)
        memo[id(self)] = twin
        twin.engine = copy.deepcopy(self.engine, memo)
        twin.flags = copy.deepcopy(self.flags, memo)
        if "_bypass" in self.__dict__:
            twin.__dict__["_bypass"] = copy.deepcopy(self.__dict__["_bypass"], memo)
        ENGINES.add(twin.engine)
        return twin

    @property
    def model(self) -> Any:
        """The model this handle belongs to."""
        return self.engine.model

    def detach(self) -> None:
        """Remove all adapters and every trace of adapterhub: outputs and keys are those before attach.

        So is ``requires_grad`` of every parameter, but where you changed it yourself after us.
        """
        self._detach_embeddings()
        self._end_bypass()
        self.engine.detach()
        self.flags.restore()
        self.model.__dict__.pop("_adapterhub", None)

    # -- adapters ----------------------------------------------------------------------------------

    def add_adapter(
        self,
        adapter_name: str,
        config: Any = None,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Add a new adapter with fresh weights, all trainable.

        Args:
            adapter_name: any name without a dot.
            config: a config object, a dict, a preset (``"seq_bn"``, ``"lora[r=16]"``, unions with ``|``);
                default ``"seq_bn"``.
            overwrite_ok: replace an adapter of that name.
            set_active: make it the active setup.

        Raises:
            ConfigError: bad name or configuration. ArchitectureError: the model lacks the places.
        """
        check_name(adapter_name)
        if adapter_name in self.engine.adapters and not overwrite_ok:
            raise ConfigError(
                f"There is an adapter '{adapter_name}' already; pass overwrite_ok=True to replace it."
            )
        resolved = resolve_config(config)
        with torch.random.fork_rng(devices=[], enabled=_seeded(resolved)):
            built = build(resolved, self.engine.resolved)
        record = AdapterRecord(
            adapter_name,
            resolved,
            {item.site.key: item.module for item in built.placed},
            dict(built.shared),
        )
        self._place(record)
        self._put(record)
        if set_active:
            self.set_active_adapters(adapter_name)

    def _place(self, record: AdapterRecord | FusionRecord) -> None:
        """Give new modules the device and type of their host."""
        dtype = files.base_dtype(self.engine)
        fixed = (
            [getattr(part, "dtype", None) for part in members(record.config)]
            if record.config
            else []
        )
        device = self.engine.resolved.device()
        for key, module in record.modules.items():
            weight = next(
                iter(self.engine.resolved.sites[key].host.parameters(recurse=False)), None
            )
            place = device if weight is None else weight.device
            module.to(device=place) if any(fixed) else module.to(device=place, dtype=dtype)
        for module in getattr(record, "shared", {}).values():
            module.to(device=device, dtype=dtype)

    def _put(self, record: AdapterRecord) -> None:
        if record.name in self.engine.adapters:
            self.engine.remove(record.name)
        self.engine.add(record)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter from the model. Raises UnknownAdapterError."""
        self._require(adapter_name)
        if self.engine.merged == adapter_name:
            self.engine.unmerge()
        self.engine.remove(adapter_name)

    def has_adapters(self) -> bool:
        """Whether any adapter is loaded."""
        return bool(self.engine.adapters)

    @property
    def adapters(self) -> dict[str, Any]:
        """Configurations of the loaded adapters, by name."""
        return {name: record.config for name, record in self.engine.adapters.items()}

    def get_adapter(self, name: str) -> dict[int, dict[str, Any]]:
        """Return ``{layer: {location: module or list of modules}}``; layer -1 holds shared parts."""
        self._require(name)
        result: dict[int, dict[str, Any]] = {}
        record = self.engine.adapters[name]
        for key, module in record.modules.items():
            site = self.engine.resolved.sites[key]
            special = {"embed": "invertible", "prompt": "prompt"}
            where = special.get(key.point) or location_name(key)
            places = result.setdefault(site.layer_id, {})
            if where in places:
                before = places[where]
                places[where] = [*before, module] if isinstance(before, list) else [before, module]
            else:
                places[where] = module
        if record.shared:
            result.setdefault(-1, {})["shared"] = nn.ModuleDict(record.shared)
        return result

    def _require(self, name: str) -> None:
        if name not in self.engine.adapters:
            known = ", ".join(sorted(self.engine.adapters)) or "none"
            raise UnknownAdapterError(
                f"No adapter '{name}' in this {type(self.model).__name__}; loaded: {known}."
                f"{did_you_mean(name, self.engine.adapters)}"
            )

    # -- the active setup ----------------------------------------------------------------------------

    @property
    def active_adapters(self) -> AdapterCompositionBlock | None:
        """The active setup, a composition block; assign a name, a list or a block to change it."""
        plan = self.engine.active if self.engine.paused is None else self.engine.paused
        return None if plan is None else plan.tree

    @active_adapters.setter
    def active_adapters(self, setup: Any) -> None:
        self.set_active_adapters(setup)

    def set_active_adapters(self, adapter_setup: Any, skip_layers: list[int] | None = None) -> None:
        """Make a setup the active one; ``None`` deactivates all adapters.

        Args:
            adapter_setup: name, list (a stack; a nested list is a fusion) or composition block.
            skip_layers: layers (counted through encoder and decoder) that run without adapters.

        Raises:
            UnknownAdapterError, CompositionError: and the setup before stays active.
        """
        tree = parse_composition(adapter_setup)
        self.engine.activate(tree, skip_layers)
        self.reset_adapter()
        if self.engine.own_heads:
            self.model._activate_heads_for(tree)

    def routing(self, rows: Any) -> routing:
        """Return ``with handle.routing(rows):`` for an active Route; works around ``generate`` too.

        Args:
            rows: (batch,) child index, or child name; -1 or ``None`` for the bare base model.
        """
        return routing(self.engine, rows)

    adapter_routing = routing

    # -- training ------------------------------------------------------------------------------------

    def freeze_model(self, freeze: bool = True) -> None:
        """Freeze (or unfreeze) every parameter of the base model and its adapters; heads stay."""
        own: list[nn.Parameter] = []
        for name, parameter in self.engine.resolved.base.named_parameters():
            if f"{CHILD}." in name:
                parameter.requires_grad_(not freeze)
            else:
                own.append(parameter)
        self.flags.set(own, not freeze)

    def train_adapter(self, adapter_setup: Any, train_embeddings: Rows = False) -> None:
        """Prepare for training: freeze the base, train all adapters of the setup, activate it.

        Args:
            adapter_setup: name, list or block; nested blocks too.
            train_embeddings: train the input embeddings along; a list of token ids, or ``"new"`` for those
                that :meth:`add_embeddings` did not copy: only these rows of them.
        """
        tree = parse_composition(adapter_setup)
        names = list(dict.fromkeys(names_in(tree)))
        for name in names:
            self._require(name)
        if train_embeddings and train_embeddings is not True:
            self._row_ids(train_embeddings)
        self.set_active_adapters(tree)
        self._freeze_for_training(train_embeddings)
        for name in names:
            for parameter in self.engine.adapters[name].parameters():
                parameter.requires_grad_(True)

    def _freeze_for_training(self, train_embeddings: Rows) -> None:
        if train_embeddings and train_embeddings is not True:
            self.train_token_rows(train_embeddings)
        self.engine.resolved.base.train()
        self.freeze_model(True)
        output = getattr(self.model, "get_output_embeddings", lambda: None)()
        if output is not None and train_embeddings is not True:
            self.flags.set(output.parameters(), False)
        if train_embeddings is True:
            self.flags.set(self.model.get_input_embeddings().parameters(), True)
        elif train_embeddings:
            self._token_rows().requires_grad_(True)

    def train_adapter_fusion(self, adapter_setup: Any, unfreeze_adapters: bool = False) -> None:
        """Prepare for training the fusion layers of a setup; its adapters stay frozen unless asked."""
        tree = parse_composition(adapter_setup)
        if isinstance(tree, AdapterCompositionBlock) and not _fusions(tree):
            tree = Fuse(*tree.children)
        self.set_active_adapters(tree)
        self._freeze_for_training(False)
        for block in _fusions(tree):
            for parameter in self.engine.fusions[block.name].parameters():
                parameter.requires_grad_(True)
        if unfreeze_adapters:
            for name in names_in(tree):
                for parameter in self.engine.adapters[name].parameters():
                    parameter.requires_grad_(True)

    def get_fusion_regularization_loss(self) -> torch.Tensor | None:
        """Return 0.01 * sum of ||I - V||_F^2 over the trained fusion layers; ``None`` without any."""
        terms = [
            module.regularization()  # type: ignore[operator]
            for record in self.engine.fusions.values()
            for module in record.modules.values()
        ]
        terms = [term for term in terms if term is not None]
        return 0.01 * torch.stack(terms).sum() if terms else None

    # -- fusion --------------------------------------------------------------------------------------

    def add_adapter_fusion(
        self,
        adapter_names: Any,
        config: Any = None,
        name: str | None = None,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Add a fusion layer over loaded adapters, at every place where all have a bottleneck.

        Args:
            adapter_names: a list of names, ``"a,b"`` or a :class:`Fuse` block.
            config: ``"dynamic"`` (default), ``"static"``, a dict or an AdapterFusionConfig.
        """
        block = _fuse_block(adapter_names, name)
        adapters = tuple(
            c if isinstance(c, str) else c.last() for c in block.children if c is not None
        )
        for adapter in adapters:
            self._require(adapter)
        if block.name in self.engine.fusions and not overwrite_ok:
            raise ConfigError(
                f"There is a fusion '{block.name}' already; pass overwrite_ok=True to replace it."
            )
        resolved = AdapterFusionConfig.load(config)
        record = FusionRecord(
            block.name, adapters, resolved, build_fusion(self.engine, adapters, resolved)
        )
        self._place(record)
        if block.name in self.engine.fusions:
            self.engine.remove_fusion(block.name)
        self.engine.add_fusion(record)
        if set_active:
            self.set_active_adapters(block)

    def delete_adapter_fusion(self, adapter_names: Any) -> None:
        """Remove a fusion layer. Raises UnknownAdapterError."""
        self.engine.remove_fusion(self._fusion_name(adapter_names))

    def _fusion_name(self, adapter_names: Any) -> str:
        name = (
            adapter_names
            if isinstance(adapter_names, str)
            else _fuse_block(adapter_names, None).name
        )
        if name not in self.engine.fusions:
            raise UnknownAdapterError(
                f"No fusion '{name}'; there are: {', '.join(self.engine.fusions) or 'none'}."
                f"{did_you_mean(name, self.engine.fusions)}"
            )
        return name

    # -- merging -------------------------------------------------------------------------------------

    def merge_adapter(self, name: str) -> None:
        """Fold an adapter into the base weights: same function, no cost. Undo with reset_adapter.

        While it is merged, the model runs without the active setup, which comes back with reset_adapter.

        Raises:
            ConfigError: the adapter is no linear change of weights, or another one is merged.
        """
        self._require(name)
        record = self.engine.adapters[name]
        for part in members(record.config):
            why = method_for(part).mergeable(part)
            if why:
                raise ConfigError(f"'{name}' cannot be merged: {why}.")
        if self.engine.merged:
            raise ConfigError(
                f"'{self.engine.merged}' is merged already; call reset_adapter() first."
            )
        self.engine.merge(name)

    def reset_adapter(self) -> None:
        """Take the merged adapter out of the base weights again, bit for bit."""
        if self.engine.merged:
            self.engine.unmerge()

    unmerge_adapter = reset_adapter

    # -- looking ---------------------------------------------------------------------------------------

    def adapter_summary(self, as_dict: bool = False) -> Any:
        """Return a table of the adapters: size, share of the model, active or not, trained or not."""
        return summary(self.engine, as_dict)

    def adapter_to(self, name: str, device: Any = None, dtype: torch.dtype | None = None) -> None:
        """Move one adapter to a device or type of its own."""
        self._require(name)
        record = self.engine.adapters[name]
        for module in (*record.modules.values(), *record.shared.values()):
            module.to(device=device, dtype=dtype)

    def iter_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Yield the parameters of one adapter."""
        self._require(name)
        yield from self.engine.adapters[name].parameters()


def _seeded(config: Any) -> bool:
    return any(getattr(part, "init_weights_seed", None) for part in members(config))


def _fuse_block(names: Any, name: str | None) -> Fuse:
    if isinstance(names, Fuse):
        return Fuse(*names.children, name=name) if name else names
    if isinstance(names, str):
        names = names.split(",")
    return Fuse(*names, name=name)


def _fusions(tree: Any) -> list[Fuse]:
    if not isinstance(tree, AdapterCompositionBlock):
        return []
    own = [tree] if isinstance(tree, Fuse) else []
    return own + [block for child in tree.children for block in _fusions(child)]
