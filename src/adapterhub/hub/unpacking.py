"""Unpacking an archive of a stranger: regular files only, below one folder, within limits."""

from __future__ import annotations

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from adapterhub.errors import HubError
from adapterhub.hub.fetching import Damaged
from adapterhub.hub.findings import raise_all
from adapterhub.hub.names import collision_problems, member_path_problems

#: Bytes that an archive may hold unpacked, and its files.
MAX_UNPACKED = 8 << 30
MAX_FILES = 1000

_LITTER = re.compile(r"(?:^|/)(?:__MACOSX/|\.DS_Store$|\._)")
_CHUNK = 1 << 20


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of a zip or tar archive below *folder*, without what systems litter theirs with.

    Raises:
        Damaged: If it cannot be read to its end.
        HubError: If it is neither, or is refused: its names, kinds of files, number or size.
    """
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder)
        elif tarfile.is_tarfile(archive):
            _untar(archive, folder)
        else:
            raise HubError("it is no zip and no tar archive")
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        tarfile.TarError,
        NotImplementedError,  # a compression that zipfile does not know
        EOFError,
    ) as error:
        raise Damaged(f"the archive cannot be read: {error}") from error


class _Unpacker:
    """Writes the files of an archive below a folder, within the limits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] = []
        self._left = MAX_UNPACKED

    def add(self, name: str, source: IO[bytes]) -> None:
        raise_all("the archive is refused:", member_path_problems(name))
        self._names.append(name)
        if len(self._names) > MAX_FILES:
            raise HubError(f"the archive is refused: it holds more than {MAX_FILES} files")
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer = target.open("xb")
        except FileExistsError:
            raise HubError(f"the archive is refused: it holds {name!a} twice") from None
        with writer:
            while chunk := source.read(_CHUNK):
                self._left -= len(chunk)
                if self._left < 0:
                    raise HubError(
                        f"the archive is refused: it holds more than {MAX_UNPACKED >> 30} GiB"
                    )
                writer.write(chunk)

    def finish(self) -> None:
        raise_all("the archive is refused:", collision_problems(self._names))


def _unzip(archive: Path, folder: Path) -> None:
    unpacker = _Unpacker(folder)
    with zipfile.ZipFile(archive) as reader:
        for info in reader.infolist():
            if info.is_dir() or _LITTER.search(info.filename):
                continue
            mode = info.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise HubError(f"the archive is refused: {info.filename!a} is no regular file")
            if info.flag_bits & 1:
                raise HubError(f"the archive is refused: {info.filename!a} is encrypted")
            with reader.open(info) as source:
                unpacker.add(info.filename, source)
    unpacker.finish()


def _untar(archive: Path, folder: Path) -> None:
    unpacker = _Unpacker(folder)
    with tarfile.open(archive) as reader:
        for info in reader:
            name = info.name.removeprefix("./")
            if info.isdir() or _LITTER.search(name):
                continue
            source = reader.extractfile(info) if info.isreg() else None
            if source is None:
                raise HubError(f"the archive is refused: {name!a} is no regular file")
            with source:
                unpacker.add(name, source)
    unpacker.finish()
