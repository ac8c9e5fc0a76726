"""Sharing adapters from the model that has them: to the user's hub, or to the Hugging Face hub."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.model import huggingface
from adapterhub.model.setups import HandleSetups
from adapterhub.model.sources import base_name

#: The hub of cards, by name, because this room knows nothing of it.
HUB = "adapterhub.hub.hub:Hub"
#: How a folder is published on a hub server, and which servers the user has.
PUBLISH, PLACES = "adapterhub.hub.pushing:publish_folder", "adapterhub.hub.sources:places"
OWN_KEY = "adapterhub.hub.trust:own_key"
README = "README.md"


class HandlePublishing(HandleSetups):
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` that publishes."""

    def push_adapter_to_hub(
        self,
        repo_id: str,
        adapter_name: str,
        datasets_tag: str | None = None,
        local_path: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        overwrite_adapter_card: bool = False,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
        adapter_card_kwargs: Mapping[str, Any] | None = None,
        hub: str | None = None,
        sign: bool = False,
    ) -> str:
        """Save an adapter with a README and publish it; return its address, or its identifier.

        Args:
            repo_id: ``"owner/name"``, on the hub server that *hub* names, else on the Hugging Face hub (or
                the server of ``$HF_ENDPOINT``); or ``"task/subtask@owner"``, for a hub folder, or on a server
                as ``owner/<adapter_name>``.
            adapter_name: the adapter; a head of its name goes along.
            datasets_tag: the data set it was trained on, for the README.
            local_path: folder to save into first; default: a temporary one.
            commit_message, private, token, create_pr, revision, commit_description: for the Hugging Face
                hub, as in ``huggingface_hub``.
            overwrite_adapter_card: write a new README over one in *local_path*.
            adapter_card_kwargs: for the README: ``tags``, ``language``, ``license``, ``metrics``,
                ``description``, ``architecture_training``, ``results``, ``citation``. For the user's
                hub: arguments of :meth:`adapterhub.Hub.publish`.
            hub: address of a hub server; default: the first one in ``$ADAPTERHUB_HUB``, if there is one.
            sign: sign it with your key (``adapterhub hub key new``); on hub servers only.

        Raises:
            UnknownAdapterError: no such adapter. HubError: refused, with the reasons.
        """
        server = hub or _first_server()
        if server is not None:
            with ExitStack() as stack:
                folder = _folder(local_path, adapter_name, stack)
                self.save_adapter(folder, adapter_name)
                if create_pr:
                    raise HubError(
                        f"{server} has no pull requests; push to a branch with revision=."
                    )
                texts = {"datasets_tag": datasets_tag, **(adapter_card_kwargs or {})}
                return self._to_server(
                    folder,
                    *_place(repo_id, adapter_name),
                    texts,
                    overwrite_adapter_card,
                    url=server.rstrip("/"),
                    token=token if isinstance(token, str) else None,
                    private=bool(private),
                    revision=revision,
                    message=commit_message or f"Add adapter {adapter_name}",
                    key=_function(OWN_KEY)() if sign else None,
                )
        if sign:
            raise HubError("only hub servers take signatures; give hub=... or set ADAPTERHUB_HUB.")
        if "@" in repo_id:
            with ExitStack() as stack:
                folder = _folder(local_path, adapter_name, stack)
                self.save_adapter(folder, adapter_name)
                return _publish(folder, repo_id, base_name(self.model), adapter_card_kwargs)
        return self._upload(
            repo_id,
            lambda folder: self.save_adapter(folder, adapter_name),
            "load_adapter",
            local_path,
            overwrite_adapter_card,
            {"datasets_tag": datasets_tag, **(adapter_card_kwargs or {})},
            commit_message=commit_message or f"Add adapter {adapter_name}",
            commit_description=commit_description,
            private=private,
            token=token,
            create_pr=create_pr,
            revision=revision,
        )

    def push_adapter_setup_to_hub(
        self,
        repo_id: str,
        adapter_setup: Any,
        head_setup: Any = None,
        datasets_tag: str | None = None,
        local_path: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        overwrite_adapter_card: bool = False,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
        adapter_card_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Save a whole composition with a README and upload it to the Hugging Face hub.

        Args:
            repo_id: ``"owner/name"``.
            adapter_setup, head_setup: as for :meth:`save_adapter_setup`; the others as for
                :meth:`push_adapter_to_hub`.

        Raises:
            HubError: refused, or *repo_id* names a place in a hub of single adapters.
        """
        if "@" in repo_id:
            raise HubError(
                f"'{repo_id}' is a place for one adapter; publish the parts of a setup one by one, or "
                "upload the setup as 'owner/name'."
            )
        return self._upload(
            repo_id,
            lambda folder: self.save_adapter_setup(folder, adapter_setup, head_setup),
            "load_adapter_setup",
            local_path,
            overwrite_adapter_card,
            {"datasets_tag": datasets_tag, **(adapter_card_kwargs or {})},
            commit_message=commit_message or "Add adapter setup",
            commit_description=commit_description,
            private=private,
            token=token,
            create_pr=create_pr,
            revision=revision,
        )

    def _to_server(
        self,
        folder: Path,
        repo: str,
        task: str | None,
        texts: dict[str, Any],
        overwrite_card: bool,
        **options: Any,
    ) -> str:
        simple = {name: texts.pop(name, None) for name in ("license", "language", "description")}
        readme = folder / README
        if any(texts.values()) and (overwrite_card or not readme.is_file()):
            config: Any = self.model.config
            base = base_name(self.model) or ""
            facts = {"base_model": base, "model_type": config.model_type}
            given = {key: value for key, value in {**simple, **texts}.items() if value}
            text = huggingface.card(repo, **facts, **given).replace(', source="hf"', "")
            readme.write_text(text, encoding="utf-8")
        elif overwrite_card:
            readme.unlink(missing_ok=True)
        simple["description"] = simple["description"] or ""
        _function(PUBLISH)(folder, repo, task=task, **simple, **options)
        return f"{options['url']}/{repo}"

    def _upload(
        self,
        repo_id: str,
        save: Callable[[Path], None],
        function: str,
        local_path: str | None,
        overwrite_card: bool,
        texts: Mapping[str, Any],
        **options: Any,
    ) -> str:
        config: Any = self.model.config
        base = getattr(config, "name_or_path", "") or ""
        with ExitStack() as stack:
            folder = _folder(local_path, repo_id.rpartition("/")[2], stack)
            save(folder)
            readme = folder / README
            if overwrite_card or not readme.is_file():
                facts = {"base_model": base, "model_type": config.model_type, "function": function}
                text = huggingface.card(repo_id, **{**facts, **texts})
                readme.write_text(text, encoding="utf-8")
            return huggingface.upload(folder, repo_id, **options)


def _folder(local_path: str | None, name: str, stack: ExitStack) -> Path:
    if local_path is not None:
        return Path(local_path)
    return Path(stack.enter_context(tempfile.TemporaryDirectory())) / name


def _publish(
    folder: Path, identifier: str, base_model: str | None, options: Mapping[str, Any] | None
) -> str:
    """Publish a saved adapter to the user's hub; return the identifier that names it alone."""
    task, _, owner = identifier.partition("@")
    task, _, subtask = task.partition("/")
    if not (task and subtask and owner):
        raise HubError(
            f"'{identifier}' does not say where to publish; write it as 'task/subtask@owner'."
        )
    hub = _function(HUB)()
    given = {"base_model": base_model, **(options or {})}
    return hub.publish(folder, task=task, subtask=subtask, owner=owner, **given).identifier


def _first_server() -> str | None:
    """Return the first server among the user's hubs."""
    for place in _function(PLACES)():
        if place.startswith(("http://", "https://")):
            return place
    return None


def _place(identifier: str, adapter_name: str) -> tuple[str, str | None]:
    """Return the repository on a server, and the task, that an identifier means."""
    if "@" not in identifier:
        return identifier, None
    task, _, owner = identifier.partition("@")
    if not owner or task.count("/") != 1:
        raise HubError(
            f"'{identifier}' does not say where to publish; write it as 'task/subtask@owner'."
        )
    return f"{owner}/{adapter_name}", task


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
