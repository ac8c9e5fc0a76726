"""Whole compositions on disk: fusion layers, and ``adapter_setup.json`` beside one folder for each part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub.checkpoints import adapters as files
from adapterhub.checkpoints import fusions
from adapterhub.checkpoints.adapters import HEAD_CONFIG, VERSION
from adapterhub.checkpoints.atomic import replacing
from adapterhub.checkpoints.files import read_json, write_json
from adapterhub.composition import AdapterCompositionBlock, Fuse, names_in, parse_composition
from adapterhub.configs import config_hash
from adapterhub.errors import CheckpointError
from adapterhub.model import headfiles
from adapterhub.model.files import HandleFiles
from adapterhub.model.sources import find_adapter

SETUP = "adapter_setup.json"
#: The files of a head that lies beside ``adapter_setup.json`` itself: that of a task class.
HEAD_FILES = (HEAD_CONFIG, files.HEAD_WEIGHTS, files.HEAD_WEIGHTS_BIN)


class HandleSetups(HandleFiles):
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` that saves several things at once."""

    if TYPE_CHECKING:

        def _fusion_name(self, adapter_names: Any) -> str: ...

    # -- fusion layers -----------------------------------------------------------------------------

    def save_adapter_fusion(
        self,
        save_directory: str | Path,
        adapter_names: Any,
        meta_dict: dict[str, Any] | None = None,
        custom_weights_loaders: Sequence[Any] | None = None,
        with_head: bool | str = False,
        use_safetensors: bool = True,
    ) -> None:
        """Write a fusion layer into a folder (its adapters are saved on their own).

        Args:
            save_directory: the folder; it need not exist.
            adapter_names: the fusion's name, its adapters, or a :class:`Fuse` block.
            meta_dict: more entries for ``adapter_fusion_config.json``.
            custom_weights_loaders: objects with ``save(folder, name)``, which add files of their own.
            with_head: write the head of that name (``True``: of the fusion's), too.
            use_safetensors: ``False``: the pickled format of the ``adapters`` library's defaults.
        """
        name = self._fusion_name(adapter_names)
        head = None
        if with_head:
            head = headfiles.collect(self.engine, with_head if isinstance(with_head, str) else name)
        fusions.save_fusion(
            self.engine,
            save_directory,
            name,
            meta=meta_dict,
            head=head,
            safetensors=use_safetensors,
        )
        for loader in custom_weights_loaders or ():
            loader.save(str(save_directory), name)

    def load_adapter_fusion(
        self,
        adapter_fusion_name_or_path: str | Path,
        load_as: str | None = None,
        custom_weights_loaders: Sequence[Any] | None = None,
        set_active: bool = False,
        with_head: bool = True,
        use_safetensors: bool | None = None,
    ) -> str:
        """Load a fusion layer whose adapters are loaded already; return its name.

        Args:
            adapter_fusion_name_or_path: a folder.
            load_as: another name to load it under.
            custom_weights_loaders: as for :meth:`load_adapter`.
            set_active: make it the active setup.
            with_head: load the head that lies beside it, too.
            use_safetensors: ``False``: prefer the pickled file (read with ``weights_only=True``).

        Raises:
            CheckpointError: damaged, or for other adapters than those that are loaded.
        """
        folder = Path(adapter_fusion_name_or_path)
        prefer_bin = use_safetensors is False
        record = fusions.read_fusion(self.engine, folder, load_as=load_as, prefer_bin=prefer_bin)
        stored = files.read_head(folder, prefer_bin) if with_head else None
        head = None if stored is None else headfiles.check(self.engine, stored, None)
        if record.name in self.engine.fusions:
            self.engine.remove_fusion(record.name)
        self.engine.add_fusion(record)
        if head is not None:
            head()
        for loader in custom_weights_loaders or ():
            loader.load(
                str(folder),
                load_as=load_as,
                loading_info=None,
                main_load_name=record.name,
                id2label=None,
                set_active=set_active,
            )
        if set_active:
            self.set_active_adapters(Fuse(*record.adapters, name=record.name))
        return record.name

    # -- all of a kind -----------------------------------------------------------------------------

    def save_all_adapters(
        self,
        save_directory: str | Path,
        with_head: bool = True,
        meta_dict: dict[str, Any] | None = None,
        custom_weights_loaders: Sequence[Any] | None = None,
        use_safetensors: bool = True,
    ) -> None:
        """Save every adapter into a sub-folder of its name; for the arguments see :meth:`save_adapter`."""
        for name, record in self.engine.adapters.items():
            self.save_adapter(
                Path(save_directory) / name,
                name,
                with_head=with_head,
                meta_dict={"config_id": config_hash(record.config), **(meta_dict or {})},
                custom_weights_loaders=custom_weights_loaders,
                use_safetensors=use_safetensors,
            )

    def save_all_adapter_fusions(
        self,
        save_directory: str | Path,
        meta_dict: dict[str, Any] | None = None,
        custom_weights_loaders: Sequence[Any] | None = None,
        use_safetensors: bool = True,
        with_head: bool | str = False,
    ) -> None:
        """Save every fusion layer into a sub-folder of its name; see :meth:`save_adapter_fusion`."""
        for name in self.engine.fusions:
            self.save_adapter_fusion(
                Path(save_directory) / name,
                name,
                meta_dict=meta_dict,
                custom_weights_loaders=custom_weights_loaders,
                with_head=with_head,
                use_safetensors=use_safetensors,
            )

    # -- compositions ------------------------------------------------------------------------------

    def save_adapter_setup(
        self,
        save_directory: str | Path,
        adapter_setup: Any,
        head_setup: Any = None,
        meta_dict: dict[str, Any] | None = None,
        custom_weights_loaders: Sequence[Any] | None = None,
        use_safetensors: bool = True,
    ) -> None:
        """Save a whole composition: each adapter, fusion and head in a sub-folder of its name.

        Args:
            save_directory: the folder; it need not exist.
            adapter_setup: name, list or composition block.
            head_setup: the heads that go with it: a name, a list, a block of names; ``True`` for the one
                head of a task class. An adapter's head of the same name is saved with it in any case.
            meta_dict: more entries for each ``adapter_config.json``.
            custom_weights_loaders: as for :meth:`save_adapter`.
            use_safetensors: ``False``: the pickled format of the ``adapters`` library's defaults.

        Raises:
            CheckpointError: an empty setup. UnknownAdapterError: a part that the model has not.
        """
        tree = parse_composition(adapter_setup)
        if tree is None:
            raise CheckpointError("There is nothing to save: the setup is empty.")
        names = list(dict.fromkeys(names_in(tree)))
        fused = {self._fusion_name(block): block for block in _fusions(tree)}
        heads = head_setup
        if isinstance(heads, AdapterCompositionBlock):
            heads = heads.to_dict()
        extra = [name for name in _head_names(head_setup) if name not in names]
        with replacing(save_directory, (SETUP, *HEAD_FILES, *names, *fused, *extra)) as folder:
            write_json(
                folder / SETUP,
                {"adapter_setup": tree.to_dict(), "head_setup": heads, "version": VERSION},
            )
            for name in names:
                self.save_adapter(
                    folder / name,
                    name,
                    meta_dict=meta_dict,
                    custom_weights_loaders=custom_weights_loaders,
                    use_safetensors=use_safetensors,
                )
            for name in fused:
                self.save_adapter_fusion(
                    folder / name, name, meta_dict=meta_dict, use_safetensors=use_safetensors
                )
            for name in extra:
                self.save_head(folder / name, name, use_safetensors)
            if head_setup is True:
                head = headfiles.collect(self.engine, None)
                if head is not None:
                    files.write_head(folder, head, use_safetensors)

    def load_adapter_setup(
        self,
        adapter_setup_name_or_path: str | Path,
        version: str | None = None,
        custom_weights_loaders: Sequence[Any] | None = None,
        set_active: bool = False,
        use_safetensors: bool | None = None,
        with_head: bool = True,
        source: str | None = None,
    ) -> tuple[Any, Any]:
        """Load what :meth:`save_adapter_setup` wrote; return the composition and the head setup.

        If a part does not fit, nothing is loaded.

        Args:
            adapter_setup_name_or_path: a folder, or an identifier as for :meth:`load_adapter`.
            version: for identifiers, the version wanted.
            custom_weights_loaders: as for :meth:`load_adapter`.
            set_active: make it the active setup, its heads the active ones.
            use_safetensors: ``False``: prefer the pickled files (read with ``weights_only=True``).
            with_head: load the heads, too.
            source: for identifiers, the hub, as for :meth:`load_adapter`.

        Raises:
            CheckpointError: a part that lacks, is damaged or does not fit.
        """
        folder = find_adapter(adapter_setup_name_or_path, version, source=source)
        data = read_json(folder / SETUP)
        tree = AdapterCompositionBlock.from_dict(data.get("adapter_setup") or {})
        stored = data.get("head_setup")
        heads = AdapterCompositionBlock.from_dict(stored) if isinstance(stored, dict) else stored
        names, blocks = list(dict.fromkeys(names_in(tree))), _fusions(tree)
        missing = [
            name
            for name in (*names, *(block.name for block in blocks))
            if not (folder / name).is_dir()
        ]
        if missing:
            raise CheckpointError(
                f"{folder} lacks the folders {', '.join(missing)} of its setup {tree!r}."
            )
        prefer_bin = use_safetensors is False
        with _all_or_nothing(self):
            for name in names:
                record = files.read_adapter(
                    self.engine, folder / name, load_as=name, prefer_bin=prefer_bin, with_head=False
                ).record
                self._put(record)
            for block in blocks:
                self.load_adapter_fusion(
                    folder / block.name,
                    load_as=block.name,
                    with_head=False,
                    use_safetensors=use_safetensors,
                )
            found = _heads_in(folder, prefer_bin) if with_head else []
            puts = [
                headfiles.check(self.engine, head, name if name in names else None)
                for name, head in found
            ]
            for put in puts:
                if put is not None:
                    put()
        for loader in custom_weights_loaders or ():
            for name in names:
                loader.load(
                    str(folder / name),
                    load_as=None,
                    loading_info=None,
                    main_load_name=name,
                    id2label=None,
                    set_active=False,
                )
        if set_active:
            self.set_active_adapters(tree)
            if heads and self.engine.own_heads and not isinstance(heads, bool):
                self.model.active_head = heads
        return tree, heads


def _heads_in(folder: Path, prefer_bin: bool) -> list[tuple[str, files.HeadFiles]]:
    """Return the heads of a saved setup by the names of their folders (``""``: beside the setup)."""
    found = []
    for place in (folder, *sorted(child for child in folder.iterdir() if child.is_dir())):
        head = files.read_head(place, prefer_bin)
        if head is not None:
            found.append(("" if place == folder else place.name, head))
    return found


def _head_names(head_setup: Any) -> list[str]:
    if isinstance(head_setup, AdapterCompositionBlock):
        return list(dict.fromkeys(names_in(head_setup)))
    if isinstance(head_setup, str):
        return [head_setup]
    return list(head_setup) if isinstance(head_setup, (list, tuple)) else []


@contextmanager
def _all_or_nothing(handle: Any) -> Iterator[None]:
    """Put adapters, fusion layers and the active setup back if the block raises."""
    engine = handle.engine
    adapters, fused = dict(engine.adapters), dict(engine.fusions)
    plan = engine.active
    try:
        yield
    except BaseException:
        for name, record in list(engine.fusions.items()):
            if fused.get(name) is not record:
                engine.remove_fusion(name)
        for name, record in list(engine.adapters.items()):
            if adapters.get(name) is not record:
                engine.remove(name)
        for name, record in adapters.items():
            if name not in engine.adapters:
                engine.add(record)
        for name, record in fused.items():
            if name not in engine.fusions:
                engine.add_fusion(record)
        if plan is not None and engine.active is not plan:
            engine.activate(plan.tree, tuple(plan.skip_layers))
        raise


def _fusions(tree: Any) -> list[Fuse]:
    if not isinstance(tree, AdapterCompositionBlock):
        return []
    own = [tree] if isinstance(tree, Fuse) else []
    return own + [block for child in tree.children for block in _fusions(child)]
