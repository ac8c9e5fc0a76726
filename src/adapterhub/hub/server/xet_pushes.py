"""One push of large files in Xet's format: what may arrive, and how it becomes files of a repository.

A push belongs to whoever began it and to one repository. What has arrived is written down
(:mod:`adapterhub.hub.store.xorbs`) and kept where all servers of the hub see it, so each request may reach
another server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from adapterhub.hub.server import hf_lfs, xet_tickets
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.signed import Announced
from adapterhub.hub.store import commits, quotas, repos, xorbs
from adapterhub.hub.store.models import Repo
from adapterhub.hub.store.refusals import Missing, TooLarge, Unacceptable
from adapterhub.hub.store.staging import Writer
from adapterhub.hub.store.xorbs import Arriving, Room
from adapterhub.hub.xet.rebuild import Sink, Xorbs, rebuild
from adapterhub.hub.xet.shards import (
    FileOf,
    hash_bytes,
    hash_text,
    read_shard,
    require_known,
)
from adapterhub.hub.xet.xorbs import check

_NAME = re.compile(r"[0-9a-f]{32}")
_TOUCH_SECONDS = 20.0


class Push:
    """A push that the caller may go on with.

    Args:
        call: a request with a ticket, to an address with the name of the push.
        xorb: hash of a xorb that is about to arrive.
        size: its bytes, as far as they are known.

    Raises:
        Refusal: If the ticket is not good for it, or there is no room for the xorb.
    """

    def __init__(self, call: Call, xorb: str = "", size: int = 0) -> None:
        self.call, self.service = call, call.service
        if not self.service.takes_xet or not _NAME.fullmatch(call.parts["push"]):
            raise Missing("there is no such upload")
        header = call.request.headers.get("authorization")
        ticket = xet_tickets.read(self.service.signing_key, header)
        self.repo, self.account = ticket.repo, ticket.account
        self.folder = xorbs.folder_of(ticket.repo, ticket.account, call.parts["push"])
        with self.service.database.read() as session:
            repo = session.get(Repo, ticket.repo)
            if repo is None:
                raise Missing("the repository is gone")
            repos.view(session, call.caller, repo.owner.name, repo.name, need="write")
            left = quotas.room(session, repo.owner_id, self.service.settings.quota)
            self._room = Room(self.service.settings.xet_staged, left)
            xorbs.require_room(session, self._arriving(xorb, size), self._room)

    def _arriving(self, name: str, size: int) -> Arriving:
        return Arriving(self.folder, name, self.account, self.repo, size)

    def keep(self, name: str, writer: Writer) -> None:
        """Keep a xorb that has arrived.

        Raises:
            Unacceptable: If it is none.
            TooLarge: If there is no room for it any more.
        """
        staged = writer.finish()
        check(staged.path)
        with self.service.database.write() as session:
            xorbs.add(session, self._arriving(name, staged.size), self._room)
        self.service.pending.put(self.folder, name, staged.path)

    def finish(self, shard: Path, area: Path, tell: Callable[[int, int], object]) -> None:
        """Put together the files that a shard tells of.

        Args:
            area: a folder for what is made meanwhile.
            tell: is called with the number of files that are done, and that of all.

        Raises:
            Refusal: If one cannot be had or may not be kept; others may have been kept then.
        """
        with self.service.assembling.alone(self.folder):
            try:
                self._finish(shard, area, tell)
            except (Unacceptable, TooLarge):
                # A client that tries again must send everything again, so it needs another address.
                xorbs.remove(self.service.database, self.service.pending, self.folder)
                self.service.metrics.refused.inc()
                raise

    def _finish(self, shard: Path, area: Path, tell: Callable[[int, int], object]) -> None:
        settings = self.service.settings
        known = {hash_bytes(name) for name in self._touch()}
        with shard.open("rb") as file:
            told = read_shard(file, known, settings.max_file, settings.xet_staged)
            # What came before (as when a client asks again that did not hear the answer) is not done again.
            files = {item.sha256: item for item in told.files if not self._arrived(item)}
            for item in files.values():
                require_known(file, item, known)
            self._require_room(files)
            tell(0, len(files))
            with Xorbs(lambda name: self.service.pending.fetch(self.folder, name, area)) as there:
                for number, item in enumerate(files.values(), start=1):
                    path = area / f"file-{number}"
                    writer = Writer(path, item.size, "the file")
                    try:
                        rebuild(file, item, there, _Alive(writer, self._touch))
                        self._keep(item, writer)
                    finally:
                        writer.close()
                        path.unlink(missing_ok=True)
                    tell(number, len(files))
        with self.service.database.write() as session:
            sent = {hash_text(raw) for raw in told.sent}
            last = xorbs.used(session, self.folder, sent)
        if last:
            xorbs.remove(self.service.database, self.service.pending, self.folder)

    def _touch(self) -> list[str]:
        """Tell everybody that this push is alive; return the hashes of its xorbs."""
        with self.service.database.write() as session:
            return xorbs.touch(session, self.folder)

    def _arrived(self, item: FileOf) -> bool:
        with self.service.database.read() as session:
            return commits.may_use(session, self.repo, item.sha256) is not None

    def _require_room(self, files: dict[str, FileOf]) -> None:
        with self.service.database.read() as session:
            repo = session.get(Repo, self.repo)
            if repo is None:
                raise Missing("the repository is gone")
            contents = {sha256: item.size for sha256, item in files.items()}
            quotas.require_room(session, repo.owner, contents, self.service.settings.quota)

    def _keep(self, item: FileOf, writer: Writer) -> None:
        staged = writer.finish()
        if (staged.sha256, staged.size) != (item.sha256, item.size):
            raise Unacceptable(
                f"a file has SHA-256 {staged.sha256} and {staged.size} bytes, "
                "which is not what the shard says"
            )
        announced = Announced(self.repo, self.account, item.sha256, item.size)
        hf_lfs.keep(self.call, staged, announced)


class _Alive:
    """A sink that tells now and then that something comes."""

    def __init__(self, sink: Sink, touch: Callable[[], object]) -> None:
        self._sink, self._touch = sink, touch
        self._next = time.monotonic() + _TOUCH_SECONDS

    def write(self, data: bytes) -> None:
        self._sink.write(data)
        if time.monotonic() > self._next:
            self._touch()
            self._next = time.monotonic() + _TOUCH_SECONDS
