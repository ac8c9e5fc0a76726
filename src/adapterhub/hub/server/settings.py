"""How a hub server is set up: flags first, then the environment, then what works out of the box."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from adapterhub.errors import HubError
from adapterhub.hub.store.quotas import Allowance

MIB = 1 << 20
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
#: Whole numbers that the environment may give, and the least that makes sense.
_NUMBERS = {
    "login_days": 1,
    "login_idle_days": 1,
    "quota_repos": 0,
    "rate_reads": 0,
    "rate_searches": 0,
    "rate_tries": 0,
    "rate_writes": 0,
}
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


def split_places(text: str) -> tuple[str, ...]:
    """Return the parts of a list with commas."""
    return tuple(part for item in text.split(",") if (part := item.strip()))


@dataclass(frozen=True)
class Settings:
    """Everything that can be set.

    Attributes:
        data: folder for whatever is kept on this machine.
        database_url: ``sqlite:///...`` or ``postgresql://...``; by default ``<data>/hub.db``.
        blobs_url: a folder or ``s3://bucket/prefix``; by default ``<data>/blobs``.
        title, about: name of the hub for people, and a sentence about it.
        public_url: the address by which clients reach the hub; by default as each request says.
        host, port: where to listen; port 0 takes a free one.
        regular_limit: files up to this size come within the commit (base64), larger ones by Xet or LFS.
            Clients of 2026 send those by Xet unless ``HF_HUB_DISABLE_XET=1``, so if that is not taken, this
            is also the largest file that they can send without that.
        part_size: files by LFS that are larger go in parts of so many bytes, if the client knows how.
        max_file: largest file, in bytes.
        max_commit: largest sum of the files sent along with one commit, in bytes.
        xet: take large files in Xet's format, too, as clients of 2026 send them; by default, if ``lz4``
            is installed, which it takes.
        xet_staged: bytes that one user may have in unfinished uploads in Xet's format, and largest sum of
            the files of one such upload.
        check_now: run the checks of a commit before answering; else leave them to workers.
        workers: check workers (threads) inside the server.
        redirect: with a bucket, send clients there for contents.
        log_json: write the log as lines of JSON; else as text.
        bad_tokens: wrong tokens that one address may send in a minute.
        sign_up: whether anybody may make an account; else an administrator or an invitation does.
        login_days, login_idle_days: after how many days a browser is signed out: at all events, and when
            it was not used.
        quota_bytes, quota_repos: what one namespace may hold (0: no limit), unless an administrator
            gave it another limit.
        rate_reads, rate_searches, rate_writes, rate_tries: requests in a minute of one user, or of one
            address where nobody is signed in (0: no limit).
        models: folders (or short names) of base models on which adapters can be tried.
        checks: ``full``, or ``format`` to leave out those against the base model, which take seconds of
            a worker's time; a commit is published when all its checks have passed.
        bases: folders with ``NAME/config.json`` of further base models to check adapters against.
    """

    data: Path
    database_url: str = ""
    blobs_url: str = ""
    title: str = "Adapter hub"
    about: str = ""
    public_url: str = ""
    host: str = "127.0.0.1"
    port: int = 7788
    regular_limit: int = 256 * MIB
    part_size: int = 64 * MIB
    max_file: int = 20 * 1024 * MIB
    max_commit: int = 2 * 1024 * MIB
    xet: bool | None = None
    xet_staged: int = 40 * 1024 * MIB
    check_now: bool = True
    workers: int = 1
    redirect: bool = True
    log_json: bool = True
    bad_tokens: int = 20
    sign_up: bool = False
    login_days: int = 30
    login_idle_days: int = 7
    quota_bytes: int = 0
    quota_repos: int = 0
    rate_reads: int = 6000
    rate_searches: int = 600
    rate_writes: int = 600
    rate_tries: int = 60
    models: tuple[str, ...] = ()
    checks: str = "full"
    bases: tuple[str, ...] = ()

    @property
    def database(self) -> str:
        """The address of the database."""
        return self.database_url or f"sqlite:///{(self.data / 'hub.db').absolute()}"

    @property
    def embedded(self) -> bool:
        """Whether this process is the only one that may work on the data."""
        return self.database.startswith("sqlite")

    @property
    def takes_xet(self) -> bool:
        """Whether large files are taken in Xet's format.

        Raises:
            HubError: If that was asked for, and cannot be done.
        """
        if self.xet is False:
            return False
        if find_spec("lz4") is not None:
            return True
        if self.xet:
            raise HubError(
                "ADAPTERHUB_XET is 1, which needs lz4; run: pip install 'adapterhub[hub]'"
            )
        return False

    @property
    def login_time(self) -> timedelta:
        """After which a browser is signed out."""
        return timedelta(days=self.login_days)

    @property
    def login_idle_time(self) -> timedelta:
        """After which a browser that is not used is signed out."""
        return timedelta(days=self.login_idle_days)

    @property
    def rates(self) -> dict[str, int]:
        """Requests in a minute, by kind (see :mod:`adapterhub.hub.server.limits`)."""
        return {
            "read": self.rate_reads,
            "search": self.rate_searches,
            "write": self.rate_writes,
            "try": self.rate_tries,
        }

    @property
    def quota(self) -> Allowance:
        """What a namespace may hold."""
        return Allowance(self.quota_bytes, self.quota_repos)

    @classmethod
    def from_environment(cls, data: Path, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables ``ADAPTERHUB_...`` (each named like its attribute, in capitals).

        ``ADAPTERHUB_DATABASE_URL``, ``ADAPTERHUB_BLOBS``, ``ADAPTERHUB_TITLE``,
        ``ADAPTERHUB_ABOUT``, ``ADAPTERHUB_PUBLIC_URL``, ``ADAPTERHUB_HOST``, ``ADAPTERHUB_PORT``,
        ``ADAPTERHUB_REGULAR_LIMIT``, ``ADAPTERHUB_PART_SIZE``, ``ADAPTERHUB_MAX_FILE``,
        ``ADAPTERHUB_MAX_COMMIT``, ``ADAPTERHUB_XET``, ``ADAPTERHUB_XET_STAGED``,
        ``ADAPTERHUB_REDIRECT``, ``ADAPTERHUB_SIGN_UP``,
        ``ADAPTERHUB_LOGIN_DAYS``, ``ADAPTERHUB_LOGIN_IDLE_DAYS``, ``ADAPTERHUB_QUOTA_BYTES``,
        ``ADAPTERHUB_QUOTA_REPOS``, ``ADAPTERHUB_RATE_READS``, ``ADAPTERHUB_RATE_SEARCHES``,
        ``ADAPTERHUB_RATE_WRITES``, ``ADAPTERHUB_RATE_TRIES``, ``ADAPTERHUB_MODELS`` (with commas
        between several), ``ADAPTERHUB_CHECKS``, ``ADAPTERHUB_BASES`` (with commas between several).

        Raises:
            HubError: If a value cannot be read.
        """
        source = os.environ if environment is None else environment
        settings = cls(
            data,
            database_url=source.get("ADAPTERHUB_DATABASE_URL", ""),
            blobs_url=source.get("ADAPTERHUB_BLOBS", ""),
            title=source.get("ADAPTERHUB_TITLE", cls.title),
            about=source.get("ADAPTERHUB_ABOUT", cls.about),
            public_url=source.get("ADAPTERHUB_PUBLIC_URL", "").rstrip("/"),
            host=source.get("ADAPTERHUB_HOST", cls.host),
            models=split_places(source.get("ADAPTERHUB_MODELS", "")),
            checks=source.get("ADAPTERHUB_CHECKS") or cls.checks,
            bases=split_places(source.get("ADAPTERHUB_BASES", "")),
        )
        if settings.checks not in ("full", "format"):
            raise HubError(f"ADAPTERHUB_CHECKS is {settings.checks!r}; write full or format")
        port = source.get("ADAPTERHUB_PORT", "")
        if port:
            if not port.isdigit() or int(port) > 65535:
                raise HubError(f"ADAPTERHUB_PORT is {port!r}, which is no port")
            settings = replace(settings, port=int(port))
        for name in (
            "regular_limit",
            "part_size",
            "max_file",
            "max_commit",
            "xet_staged",
            "quota_bytes",
        ):
            text = source.get(f"ADAPTERHUB_{name.upper()}", "")
            if text:
                settings = replace(settings, **{name: parse_size(text)})
        for name, least in _NUMBERS.items():
            text = source.get(f"ADAPTERHUB_{name.upper()}", "")
            if text:
                if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
                    raise HubError(
                        f"ADAPTERHUB_{name.upper()} is {text!r}; write a whole number from {least}"
                    )
                settings = replace(settings, **{name: int(text)})
        for name in ("sign_up", "redirect", "xet"):
            text = source.get(f"ADAPTERHUB_{name.upper()}", "").lower()
            if text not in ("", "0", "1", "no", "yes", "false", "true"):
                raise HubError(f"ADAPTERHUB_{name.upper()} is {text!r}; write 1 or 0")
            if text:
                settings = replace(settings, **{name: text in ("1", "yes", "true")})
        return settings
