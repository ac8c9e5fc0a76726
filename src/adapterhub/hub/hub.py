"""The :class:`Hub` itself: a folder, and the few things one does with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub import cardfile, search
from adapterhub.hub.archives import archive_of, bring
from adapterhub.hub.cards import AdapterCard, ArchitectureCard, SubtaskCard, TaskCard
from adapterhub.hub.catalogue import LAYOUT, Catalogue
from adapterhub.hub.check import FORMAT, HUB_FILE, check
from adapterhub.hub.entries import Entry
from adapterhub.hub.findings import Finding
from adapterhub.hub.publish import Request, publish
from adapterhub.hub.pull import pull
from adapterhub.hub.resolve import nearest, resolve
from adapterhub.hub.storage import replace_file

HUB_VARIABLE = "ADAPTERHUB_HUB"

_README = """\
# An adapter hub

A folder of cards and files that the `adapterhub` command and library read and write.

- `tasks/`, `subtasks/`, `architectures/`, `adapters/<owner>/`: YAML cards, one per thing
- `blobs/sha256/<first two digits>/<hash>`: the files, each under its own SHA-256
- `keys/<account>.yaml`, `reports/<owner>/<name>/`: public keys, and signed evaluation reports

Copy it, put it under version control, or share it over a network folder as it is.
"""


def default_hub_folder() -> Path:
    """Return the hub used when none is named: ``$ADAPTERHUB_HUB``, else the user's data folder.

    Of several hubs there (with commas), the first that is a folder.

    Not the cache folder: what was published must survive somebody emptying their caches.
    """
    named = [item.strip() for item in os.environ.get(HUB_VARIABLE, "").split(",") if item.strip()]
    folders = [item for item in named if item != "hf" and "://" not in item]
    if folders or len(named) == 1:
        return Path((folders or named)[0]).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "adapterhub" / "hub"


class Hub:
    """A hub folder: YAML cards that say what there is, and the files of the adapters.

    A checkout of the original AdapterHub ``Hub`` repository is one as well; it can be searched and
    resolved, but its weights are elsewhere, and it cannot be published to before :meth:`init`.

    Args:
        path: The hub folder; without it, :func:`default_hub_folder`.

    Raises:
        HubError: If there is no hub, or one of a newer format.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path).expanduser() if path is not None else default_hub_folder()
        self.name = self.path.name
        if (self.path / HUB_FILE).is_file():
            self._read_head()
        elif not any((self.path / folder).is_dir() for folder, _, _ in LAYOUT):
            raise HubError(
                f"there is no hub at {self.path}; create one with 'adapterhub hub init PATH' "
                f"(Hub.init), or name another with --hub or {HUB_VARIABLE}"
            )
        self._catalogue = Catalogue(self.path)

    def _read_head(self) -> None:
        try:
            head = cardfile.load(self.path / HUB_FILE)
        except HubError as error:
            raise HubError(f"{self.path / HUB_FILE}: {error}") from error
        version = head.get("format")
        if not isinstance(version, int) or version < 1:
            raise HubError(f"{self.path / HUB_FILE}: 'format' must be a whole number from 1")
        if version > FORMAT:
            raise HubError(
                f"{self.path} has the hub format {version}; this version of adapterhub knows up to "
                f"{FORMAT}, so update it"
            )
        self.name = str(head.get("name") or self.name)

    @classmethod
    def init(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        description: str = "",
    ) -> Hub:
        """Make *path* a hub that can be published to, and return it.

        The folder may be new, empty, a hub already (nothing changes then), or a folder of cards,
        such as a checkout of the original ``Hub`` repository.

        Raises:
            HubError: If the folder holds something else.
        """
        folder = Path(path).expanduser() if path is not None else default_hub_folder()
        if (folder / HUB_FILE).is_file():
            return cls(folder)
        has_cards = any((folder / part).is_dir() for part, _, _ in LAYOUT)
        if folder.exists() and not folder.is_dir():
            raise HubError(f"{folder} is a file; give a folder")
        if folder.is_dir() and any(folder.iterdir()) and not has_cards:
            raise HubError(f"{folder} is not empty and holds no cards; give a new or empty folder")
        head = {
            "format": FORMAT,
            "name": name or folder.absolute().name or "hub",
            "description": description,
            "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not has_cards:
                for part in ("tasks", "subtasks", "architectures", "adapters"):
                    (folder / part).mkdir()
                replace_file(folder / "README.md", _README.encode())
            if not (folder / ".gitignore").exists():
                replace_file(folder / ".gitignore", b".staging/\n.lock\n")
            data = cardfile.dumps({key: value for key, value in head.items() if value})
            replace_file(folder / HUB_FILE, data)  # last: it is what makes the folder a hub
        except OSError as error:
            raise HubError(f"{folder} could not be made a hub: {error}") from error
        return cls(folder)

    def __repr__(self) -> str:
        return f"Hub({str(self.path)!r})"

    @property
    def catalogue(self) -> Catalogue:
        """All cards, as the folder is now."""
        return self._catalogue.refresh()

    @property
    def writable(self) -> bool:
        """Whether adapters can be published here (it has a ``hub.yaml``)."""
        return (self.path / HUB_FILE).is_file()

    def publish(
        self,
        folder: str | os.PathLike[str],
        *,
        task: str,
        subtask: str,
        owner: str,
        name: str | None = None,
        version: str = "1",
        type: str | None = None,
        description: str = "",
        license: str | None = None,
        author: str | None = None,
        base_model: str | None = None,
        metrics: Mapping[str, float] | None = None,
        language: str | Sequence[str] | None = None,
        citation: str | None = None,
        url: str | None = None,
        default: bool = False,
        new_task: bool = False,
    ) -> Entry:
        """Check the adapter in *folder*, store it, and make it visible in one step.

        Args:
            folder: What ``save_adapter`` wrote: ``adapter_config.json``, ``adapter.safetensors``,
                perhaps a head, a README and a PNG.
            task: Task id, e.g. ``"sentiment"`` (for a language adapter its code, e.g. ``"sw"``).
            subtask: Data set or corpus, e.g. ``"sst-2"``. A card is created for a new task or
                subtask.
            owner: Who publishes; the folder of the card.
            name: Name of the card; by default made of base model, task, subtask and method.
            version: A name such as ``"1"``. It becomes the default version. A published version
                never changes: the same bytes again do nothing, other bytes are an error.
            type: ``"text_task"``, ``"text_lang"`` or another adapter type; by default that of the
                known task, else ``"text_task"``.
            description: For people; plain text or Markdown.
            license: SPDX expression, e.g. ``"Apache-2.0"``; by default that of the README.
            author: Full name; by default *owner*.
            base_model: Public id of the base model, if ``adapter_config.json`` has none or a path.
            metrics: Results by name, e.g. ``{"accuracy": 0.92}``.
            language: Language tags or English names; by default those of the README.
            citation: BibTeX.
            url: Page about the adapter.
            default: Mark as the one to take among adapters for the same task and base model.
            new_task: Create a task or subtask although its name looks like one that exists.

        Returns:
            The entry as others now see it.

        Raises:
            HubError: With every problem found at once; the hub is as before.
        """
        if not self.writable:
            raise HubError(
                f"{self.path} has no {HUB_FILE}; make it a hub to publish to with "
                f"'adapterhub hub init {self.path}' (Hub.init)"
            )
        request = Request(
            folder=Path(folder).expanduser(),
            task=task,
            subtask=subtask,
            owner=owner,
            name=name,
            version=version,
            type=type,
            description=description,
            license=license,
            author=author,
            base_model=base_model,
            metrics=metrics,
            language=language,
            citation=citation,
            url=url,
            default=default,
            new_task=new_task,
        )
        return publish(self._catalogue, request)

    def search(
        self,
        query: str = "",
        *,
        task: str | None = None,
        language: str | None = None,
        base_model: str | None = None,
        architecture: str | None = None,
        owner: str | None = None,
    ) -> list[Entry]:
        """Return the adapters that contain every word of *query* and have the given properties.

        Args:
            query: Words, with typing errors forgiven; empty for all.
            task: Task, subtask, or ``task/subtask``.
            language: Tag or English name.
            base_model: Id, with or without the part before the slash.
            architecture: Name of the architecture or method, or a configuration hash.
            owner: Owner, with or without ``@``.

        Returns:
            Entries, best first.
        """
        catalogue = self.catalogue
        tests = search.filters(task, language, base_model, architecture, owner)
        kept = [entry for entry in catalogue.entries if all(test(entry) for test in tests)]
        return search.rank(catalogue, kept, query)

    def resolve(
        self,
        identifier: str,
        *,
        base_model: str | None = None,
        config: Any = None,
        version: str | None = None,
    ) -> Entry:
        """Return the one adapter that is meant; see :mod:`adapterhub.hub.resolve` for the rules.

        Args:
            identifier: ``@owner/name``, ``task/subtask``, ``task/subtask@owner``, ``subtask``, ...
            base_model: Id of the base model that it must be for.
            config: Full configuration, its hash, or a name such as ``"pfeiffer"``.
            version: Version name; by default the default version of the card.

        Raises:
            HubError: If nothing fits (naming what is near) or several do (naming each).
        """
        return resolve(
            self.catalogue, identifier, base_model=base_model, config=config, version=version
        )

    def pull(
        self,
        identifier: str,
        target_dir: str | os.PathLike[str] | None = None,
        *,
        base_model: str | None = None,
        config: Any = None,
        version: str | None = None,
    ) -> Path:
        """Bring an adapter into a local folder, every checksum verified, and return the folder.

        Args:
            identifier: And the arguments of the same name: as for :meth:`resolve`.
            target_dir: New or empty folder; by default one in the cache, shared by all processes
                (``$ADAPTERHUB_CACHE`` or ``~/.cache/adapterhub``). Do not edit what is there.

        Raises:
            HubError: As :meth:`resolve`, or if the files are damaged, or neither in this hub nor in an
                archive whose address and checksum the card states.
        """
        entry = self.resolve(identifier, base_model=base_model, config=config, version=version)
        target = Path(target_dir) if target_dir is not None else None
        elsewhere = archive_of(entry.version)
        if elsewhere is not None:
            return bring(*elsewhere, target)
        return pull(self.path, entry, target)

    def cards(
        self, kind: str = "adapter"
    ) -> list[AdapterCard | TaskCard | SubtaskCard | ArchitectureCard]:
        """Return all usable cards of one kind, sorted by path.

        Args:
            kind: ``"adapter"``, ``"task"``, ``"subtask"`` or ``"architecture"``.
        """
        catalogue = self.catalogue
        tables: dict[str, Mapping[Any, Any]] = {
            "task": catalogue.tasks,
            "subtask": catalogue.subtasks,
            "architecture": catalogue.architectures,
            "adapter": catalogue.adapters,
        }
        if kind not in tables:
            raise HubError(f"there are no cards of kind {kind!r}, only {', '.join(tables)}")
        return list(tables[kind].values())

    def check(self, *, files: bool = True) -> list[Finding]:
        """Return everything that is wrong or odd in this hub, worst first.

        Args:
            files: Also read every stored file and compare its checksum.
        """
        return check(self.catalogue, files=files)

    def nearest(self, text: str) -> list[str]:
        """Return the identifiers of this hub that look most like *text*, best first."""
        return nearest(self.catalogue, text)
