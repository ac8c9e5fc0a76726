"""The files of adapters, laid out as folders that the child process can load."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapterhub.hub.inspection import (
    CONFIG_FILE,
    HEAD_CONFIG_FILE,
    HEAD_WEIGHTS_FILE,
    WEIGHTS_FILE,
)
from adapterhub.hub.tryit.jobs import TryError

if TYPE_CHECKING:
    from adapterhub.hub.store.blobs import Blobs
    from adapterhub.hub.store.models import File

#: Nothing else is ever given to the child: no pickle, no code, no tokenizer of a stranger.
WANTED = (
    CONFIG_FILE,
    WEIGHTS_FILE,
    HEAD_CONFIG_FILE,
    HEAD_WEIGHTS_FILE,
    "adapter_model.safetensors",
)


class AdapterFolders:
    """A cache of adapter folders below *root*; the least recently used ones go first.

    Args:
        root: a folder for this purpose alone; what is in it is removed.
        home: where the contents are.
        limit: bytes that the folders may have together.
        each: bytes that one adapter may have.
    """

    def __init__(self, root: Path, home: Blobs, *, limit: int = 2 << 30, each: int) -> None:
        self.root, self._home, self._limit, self._each = root, home, limit, each
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}

    def get(self, files: Sequence[File], name: str) -> tuple[str, Path]:
        """Return the key and the folder of an adapter; the key follows from the contents.

        Args:
            files: of its commit.
            name: for messages.

        Raises:
            TryError: If it is too large, or a content is not what its hash says.
        """
        chosen = sorted((f for f in files if f.path in WANTED), key=lambda f: f.path)
        size = sum(file.size for file in chosen)
        if size > self._each:
            raise TryError(
                f"{name} has {size >> 20} MB; adapters of up to {self._each >> 20} MB can be tried here"
            )
        listed = "\n".join(f"{file.path} {file.sha256}" for file in chosen)
        key = "k" + hashlib.sha256(listed.encode()).hexdigest()[:24]
        folder = self.root / key
        with self._lock:  # one after the other: what a second one needs is often the same
            if key in self._sizes:
                self._sizes[key] = self._sizes.pop(key)
            else:
                self._fetch(chosen, folder, name)
                self._sizes[key] = size
                self._shrink(key)
        return key, folder

    def _fetch(self, files: Sequence[File], folder: Path, name: str) -> None:
        made = self.root / f".{uuid.uuid4().hex}"
        made.mkdir()
        try:
            for file in files:
                digest = hashlib.sha256()
                with (made / file.path).open("wb") as target:
                    for piece in self._home.read(file.sha256):
                        digest.update(piece)
                        target.write(piece)
                if digest.hexdigest() != file.sha256:
                    raise TryError(f"{name}: {file.path} is damaged in the store of this hub")
            os.replace(made, folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise

    def _shrink(self, kept: str) -> None:
        for key in list(self._sizes):
            if sum(self._sizes.values()) <= self._limit or key == kept:
                return
            del self._sizes[key]
            shutil.rmtree(self.root / key, ignore_errors=True)
