"""Saving and loading one adapter or one head, as methods of the handle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from adapterhub.checkpoints import adapters as files
from adapterhub.checkpoints import peft_export
from adapterhub.checkpoints.adapters import HeadFiles
from adapterhub.engine import AdapterRecord, Engine
from adapterhub.errors import CheckpointError, ConfigError, UnknownAdapterError
from adapterhub.model import headfiles
from adapterhub.model.sources import base_name, find_adapter


class HandleFiles:
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` that reads and writes folders."""

    engine: Engine

    if TYPE_CHECKING:

        @property
        def model(self) -> Any: ...

        def _require(self, name: str) -> None: ...

        def _put(self, record: AdapterRecord) -> None: ...

        def set_active_adapters(
            self, adapter_setup: Any, skip_layers: list[int] | None = None
        ) -> None: ...

    def save_adapter(
        self,
        save_directory: str | Path,
        adapter_name: str,
        with_head: bool = True,
        meta_dict: dict[str, Any] | None = None,
        custom_weights_loaders: Sequence[Any] | None = None,
        use_safetensors: bool = True,
        format: str = "adapterhub",
    ) -> None:
        """Write an adapter (and the head of its name) into a folder, which is replaced as a whole.

        Args:
            save_directory: the folder; it need not exist.
            adapter_name: the adapter.
            with_head: write the head that belongs to it, too.
            meta_dict: more entries for ``adapter_config.json``.
            custom_weights_loaders: objects with ``save(folder, name)``, which add files of their own.
            use_safetensors: ``False``: write the pickled format of the ``adapters`` library's defaults.
            format: ``"adapterhub"`` (which the ``adapters`` library reads), or ``"peft"`` for LoRA, DoRA and
                (IA)3; then *meta_dict* is of no effect and only a task class's head is written.

        Raises:
            UnknownAdapterError: no such adapter. ConfigError: no such format.
            CheckpointError: PEFT has no counterpart of the adapter.
        """
        self._require(adapter_name)
        if format == "peft":
            head = headfiles.apart(self.engine) if with_head else None
            peft_export.save(self.engine, save_directory, adapter_name, head, use_safetensors)
        elif format == "adapterhub":
            files.save_adapter(
                self.engine,
                save_directory,
                adapter_name,
                meta=meta_dict,
                head=headfiles.collect(self.engine, adapter_name) if with_head else None,
                safetensors=use_safetensors,
            )
        else:
            raise ConfigError(f"format is 'adapterhub' or 'peft', not {format!r}.")
        for loader in custom_weights_loaders or ():
            loader.save(str(save_directory), adapter_name)

    def load_adapter(
        self,
        adapter_name_or_path: str | Path,
        config: Any = None,
        version: str | None = None,
        model_name: str | None = None,
        load_as: str | None = None,
        with_head: bool = True,
        custom_weights_loaders: Sequence[Any] | None = None,
        leave_out: list[int] | None = None,
        id2label: Mapping[int, str] | None = None,
        set_active: bool = False,
        use_safetensors: bool | None = None,
        loading_info: dict[str, Any] | None = None,
        source: str | None = None,
        revision: str | None = None,
        require_signature: Any = None,
    ) -> str:
        """Load an adapter from a folder or by its hub identifier; return its name.

        An adapter of that name is replaced. Everything is checked before the model is changed.

        Args:
            adapter_name_or_path: a folder (one of the PEFT library's too), an identifier like
                ``"sentiment/movie-reviews@ukp"``, the name of a repository of the Hugging Face hub, or the
                address of an archive (``"https://.../adapter.zip"``; ``#sha256=...`` behind it is verified).
            config: for identifiers, the configuration wanted (hub entries may differ in it). Of a DiReFT
                adapter from the ``adapters`` library pass ``"direft"``: its file does not tell it from
                NoReFT, as which it is loaded otherwise.
            version: for identifiers, the version wanted.
            model_name: for identifiers, the base model it was trained for; default: this model's where the
                hub has such an adapter.
            load_as: another name to load it under.
            with_head: load the head that lies beside it, too.
            custom_weights_loaders: objects with ``load(folder, load_as=, loading_info=, main_load_name=,
                id2label=, set_active=)``, which read files of their own.
            leave_out: layers to load without, in addition to the adapter's own.
            id2label: other names for the labels of the head.
            set_active: make it the active setup.
            use_safetensors: ``False``: prefer the pickled file (read with ``weights_only=True``).
            loading_info: gets ``missing_keys`` and ``unexpected_keys``; empty, as other files are refused.
            source: for identifiers, the hub: ``"ah"`` (the user's) or ``"hf"`` (Hugging Face); default: the
                first, then the second.
            revision: another word for *version*: on a server, a branch, tag or commit.
            require_signature: ``True``: load it only if a key that you trust signed it; the text of a key
                (``"ed25519:..."``): only if that one did; a path: as ``True``, by the list there. Default:
                ``$ADAPTERHUB_REQUIRE_SIGNATURE``. A wrong signature from a hub is always an error.

        Raises:
            CheckpointError: damaged, unsafe, or for another architecture. HubError: not to be found.
            ConfigError: *id2label* does not fit the head, or *version* and *revision* differ.
        """
        if version is not None and revision is not None and version != revision:
            raise ConfigError(
                f"version={version!r} and revision={revision!r} say the same thing differently; give one."
            )
        folder = find_adapter(
            adapter_name_or_path,
            version if version is not None else revision,
            config,
            model_name,
            base_name(self.model),
            source,
            require_signature,
        )
        prefer_bin = use_safetensors is False
        loaded = files.read_adapter(
            self.engine,
            folder,
            load_as=load_as,
            leave_out=leave_out,
            prefer_bin=prefer_bin,
            with_head=with_head,
            config=config,
        )
        name = loaded.record.name
        check_name(name)
        stored = loaded.head if id2label is None else relabelled(loaded.head, id2label)
        head = None if stored is None else headfiles.check(self.engine, stored, name)
        self._put(loaded.record)
        if head is not None:
            head()
            if id2label is not None and not self.engine.own_heads:
                self.model.config.id2label = dict(id2label)
                self.model.config.label2id = {label: i for i, label in id2label.items()}
        if loading_info is not None:
            loading_info.update(missing_keys=[], unexpected_keys=[])
        for loader in custom_weights_loaders or ():
            loader.load(
                str(folder),
                load_as=load_as,
                loading_info=loading_info,
                main_load_name=name,
                id2label=id2label,
                set_active=set_active,
            )
        if set_active:
            self.set_active_adapters(name)
        return name

    def save_head(
        self, save_directory: str | Path, head_name: str | None = None, use_safetensors: bool = True
    ) -> None:
        """Write a prediction head alone into a folder; without a name the (single) active one."""
        name = head_name or getattr(self.model, "active_head", None)
        head = (
            headfiles.collect(self.engine, name) if name is None or isinstance(name, str) else None
        )
        if head is None:
            raise UnknownAdapterError(
                f"No prediction head {name!r} to save in this {type(self.model).__name__}."
            )
        files.write_head(save_directory, head, use_safetensors)

    def load_head(
        self,
        save_directory: str | Path,
        load_as: str | None = None,
        id2label: Mapping[int, str] | None = None,
        use_safetensors: bool | None = None,
    ) -> str | None:
        """Load a prediction head alone; return its name. Checked before the model is changed.

        Args:
            save_directory: the folder.
            load_as: another name to load it under.
            id2label: other names for its labels.
            use_safetensors: ``False``: prefer the pickled file (read with ``weights_only=True``).

        Raises:
            CheckpointError: no head there, or one that does not fit. ConfigError: *id2label* does not.
        """
        stored = files.read_head(Path(save_directory), use_safetensors is False)
        if stored is None:
            raise CheckpointError(
                f"{save_directory} has no {files.HEAD_CONFIG}; it holds no prediction head."
            )
        if id2label is not None:
            stored = relabelled(stored, id2label)
        put = headfiles.check(self.engine, stored, load_as)
        if put is not None:
            put()
        return headfiles.name_for(self.engine, stored, load_as)


def check_name(name: Any) -> None:
    """Refuse names that cannot be part of a parameter's name or of a path."""
    if not isinstance(name, str) or not name or "." in name or any(ord(c) < 32 for c in name):
        raise ConfigError(
            f"Not an adapter name: {name!r}; a name is non-empty text without '.' and control characters."
        )


@overload
def relabelled(head: HeadFiles, id2label: Mapping[int, str]) -> HeadFiles: ...
@overload
def relabelled(head: HeadFiles | None, id2label: Mapping[int, str]) -> HeadFiles | None: ...
def relabelled(head: HeadFiles | None, id2label: Mapping[int, str]) -> HeadFiles | None:
    """Return a stored head with other label names. Raises ConfigError if their number does not fit."""
    if head is None:
        return None
    flexible = isinstance(head.config.get("config"), dict)
    config = dict(head.config["config"] if flexible else head.config)
    count = config.get("num_labels")
    if sorted(id2label) != list(range(count if isinstance(count, int) else len(id2label))):
        raise ConfigError(
            f"id2label has the ids {sorted(id2label)}, but the stored head has {count} labels, numbered "
            "from 0."
        )
    config["label2id"] = {label: number for number, label in id2label.items()}
    return HeadFiles({**head.config, "config": config} if flexible else config, head.tensors)
