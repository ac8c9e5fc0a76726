"""How a hub server is set up: flags first, then the environment, then what works out of the box."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adapterhub.errors import HubError

MIB = 1 << 20
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(?i)([0-9]+)\s*([kmg]?)(?:i?b)?")


def parse_size(text: str) -> int:
    """Return a number of bytes written as ``512``, ``64k``, ``256 MiB`` or ``2g``.

    Raises:
        HubError: If it is written in another way.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise HubError(f"{text!r} is not a size; write e.g. 64k, 256M or 2G")
    return int(match[1]) * _UNITS[match[2].lower()]


@dataclass(frozen=True)
class Settings:
    """Everything that can be set.

    Attributes:
        data: folder for whatever is kept on this machine.
        database_url: ``sqlite:///...`` or ``postgresql://...``; by default ``<data>/hub.db``.
        blobs_url: a folder or ``s3://bucket/prefix``; by default ``<data>/blobs``.
        public_url: the address by which clients reach the hub; by default as each request says.
        host, port: where to listen; port 0 takes a free one.
        regular_limit: files up to this size come within the commit (base64), larger ones by LFS. Clients
            of 2026 send what comes by LFS to a Xet server unless ``HF_HUB_DISABLE_XET=1``, so this is
            also the largest file that they can send without that.
        max_file: largest file, in bytes.
        max_commit: largest sum of the files sent along with one commit, in bytes.
        check_now: run the checks of a commit before answering; else leave them to workers.
        workers: check workers (threads) inside the server.
        redirect: with a bucket, send clients there for contents.
        log_json: write the log as lines of JSON; else as text.
        bad_tokens: wrong tokens that one address may send in a minute.
    """

    data: Path
    database_url: str = ""
    blobs_url: str = ""
    public_url: str = ""
    host: str = "127.0.0.1"
    port: int = 7788
    regular_limit: int = 256 * MIB
    max_file: int = 20 * 1024 * MIB
    max_commit: int = 2 * 1024 * MIB
    check_now: bool = True
    workers: int = 1
    redirect: bool = True
    log_json: bool = True
    bad_tokens: int = 20

    @property
    def database(self) -> str:
        """The address of the database."""
        return self.database_url or f"sqlite:///{(self.data / 'hub.db').absolute()}"

    @property
    def embedded(self) -> bool:
        """Whether this process is the only one that may work on the data."""
        return self.database.startswith("sqlite")

    @classmethod
    def from_environment(cls, data: Path, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables ``ADAPTERHUB_...`` (each named like its attribute, in capitals).

        ``ADAPTERHUB_DATABASE_URL``, ``ADAPTERHUB_BLOBS``, ``ADAPTERHUB_PUBLIC_URL``, ``ADAPTERHUB_HOST``,
        ``ADAPTERHUB_PORT``, ``ADAPTERHUB_REGULAR_LIMIT``, ``ADAPTERHUB_MAX_FILE``,
        ``ADAPTERHUB_MAX_COMMIT``.

        Raises:
            HubError: If a value cannot be read.
        """
        source = os.environ if environment is None else environment
        settings = cls(
            data,
            database_url=source.get("ADAPTERHUB_DATABASE_URL", ""),
            blobs_url=source.get("ADAPTERHUB_BLOBS", ""),
            public_url=source.get("ADAPTERHUB_PUBLIC_URL", "").rstrip("/"),
            host=source.get("ADAPTERHUB_HOST", cls.host),
        )
        port = source.get("ADAPTERHUB_PORT", "")
        if port:
            if not port.isdigit() or int(port) > 65535:
                raise HubError(f"ADAPTERHUB_PORT is {port!r}, which is no port")
            settings = replace(settings, port=int(port))
        for name in ("regular_limit", "max_file", "max_commit"):
            text = source.get(f"ADAPTERHUB_{name.upper()}", "")
            if text:
                settings = replace(settings, **{name: parse_size(text)})
        return settings
