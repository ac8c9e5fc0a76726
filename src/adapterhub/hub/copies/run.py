"""The copying itself: what is new is fetched, checked and made visible, one adapter after the other.

Killed at any moment, the folder is a whole hub: contents come first, the card that names them last, by one
rename. The next run goes on, also in the middle of a file. What cannot be copied (damaged, refused by a
check, not there) is reported, stays as it was before, and does not keep anything else from being copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from adapterhub.errors import HubError
from adapterhub.hub import cardfile, folderkeys, folderreports
from adapterhub.hub.catalogue import LAYOUT
from adapterhub.hub.copies.origin import EVERYTHING, Draft, Filter, Got, Offer, Origin, Wanted
from adapterhub.hub.copies.paths import path_problem
from adapterhub.hub.copies.state import Kept, State
from adapterhub.hub.copies.wire import WireError, git_oid
from adapterhub.hub.hub import Hub
from adapterhub.hub.repairs import clean_card
from adapterhub.hub.schema import CardKind, schema_problems
from adapterhub.hub.storage import LOCK, blob_path, file_sha256, replace_file
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.results import errors

GIB = 1 << 30
_SAVE_SECONDS = 5.0
_GIVE_UP = 8


@dataclass(frozen=True)
class Limits:
    """How much a source may send: bytes of one file, and of one run."""

    file: int = 20 * GIB
    total: int = 1 << 50


class Progress:
    """Told what happens; this one keeps it to itself."""

    def begin(self, cards: int) -> None:
        """So many cards are new or have changed."""

    def card(self, path: str) -> None:
        """One of them is done, or was refused."""

    def bytes(self, count: int) -> None:
        """So many bytes have come."""


@dataclass
class Report:
    """What a run did. ``gone``: not at the source any more, and still here; ``refused``: with reasons."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    same: int = 0
    removed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Sequence[str]] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    blobs_removed: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything in the folder is different now."""
        return bool(self.added or self.updated or self.removed or self.blobs_removed)


def open_copy(target: str | os.PathLike[str], origin: str, *, adopt: bool = False) -> State:
    """Return the memory of the folder *target*, which is new, empty, or a copy of *origin* already.

    Args:
        adopt: also take a hub folder that is no copy yet, and one that was copied from elsewhere; cards
            that differ are replaced by those of the origin.

    Raises:
        HubError: If it is something else.
    """
    root = Path(target).expanduser()
    if root.exists() and not root.is_dir():
        raise HubError(f"{root} is a file; give a folder")
    state = State.load(root)
    if state.origin and state.origin != origin and not adopt:
        raise HubError(
            f"{root} is a copy of {state.origin} and not of {origin}; give another folder, or --adopt to "
            "make it a copy of the latter"
        )
    if not state.origin and root.is_dir() and any(root.iterdir()) and not adopt:
        raise HubError(
            f"{root} is not empty and no copy; give a new or empty folder, or --adopt to bring a hub folder "
            "into step with the source"
        )
    state.origin = origin
    return state


def copy(
    origin: Origin,
    state: State,
    *,
    wanted: Filter = EVERYTHING,
    prune: bool = False,
    verify: bool = False,
    examined: bool = False,
    limits: Limits | None = None,
    jobs: int = 4,
    progress: Progress | None = None,
) -> Report:
    """Bring the folder of *state* into step with *origin*.

    Args:
        wanted: which adapters; the others count as not there.
        prune: remove what the origin does not have (any more), and contents that no card names then.
        verify: read every file that is here already, too, and mend it if it is damaged.
        examined: the origin has run our checks on the contents itself and is believed.
        limits: how much it may send.
        jobs: adapters that are fetched at a time.
        progress: told what happens.

    Raises:
        HubError: If the source does not answer, or the disk fails; what was copied is there, and the next
            run goes on.
    """
    about = origin.about()
    hub = Hub.init(
        state.root,
        name=" ".join(about.get("name", "").split())[:80] or None,
        description=about.get("description", "")[:2000],
    )
    from filelock import FileLock, Timeout

    # The lock of publications: nobody changes the folder meanwhile.
    lock = FileLock(hub.path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise HubError(f"another process is writing to {hub.path}; try again later") from error
    try:
        state.parts.mkdir(parents=True, exist_ok=True)
        state.save()
        return _Run(
            origin, state, examined, verify, limits or Limits(), progress or Progress()
        ).run(wanted, prune, jobs)
    except OSError as error:
        raise HubError(f"{hub.path} could not be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            state.save()
        lock.release()


class _Run:
    def __init__(
        self,
        origin: Origin,
        state: State,
        examined: bool,
        verify: bool,
        limits: Limits,
        progress: Progress,
    ) -> None:
        self.origin, self.state, self.root = origin, state, state.root
        self.examined, self.verify, self.limits, self.progress = examined, verify, limits, progress
        self.report = Report()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._good: set[tuple[str, str]] = set()

    def run(self, wanted: Filter, prune: bool, jobs: int) -> Report:
        offers = self._offers(wanted)
        adapters = [offer for offer in offers.values() if offer.path.startswith("adapters/")]
        others = [offer for offer in offers.values() if not offer.path.startswith("adapters/")]
        if not wanted:
            self._copy_all(others + adapters, jobs)
        else:
            self._copy_all(adapters, jobs)
            places = self._places(wanted, adapters)
            chosen = {re.sub(r"\.ya?ml$", "", offer.path) for offer in adapters}
            others = [offer for offer in others if _belongs(offer.path, places, chosen)]
            self._copy_all(others, jobs)
        present = {offer.path for offer in others + adapters}
        self._part_with(present, prune)
        return self.report

    def _offers(self, wanted: Filter) -> dict[str, Offer]:
        offers: dict[str, Offer] = {}
        folded: dict[str, str] = {}
        for offer in self.origin.offers(wanted):
            problem = path_problem(offer.path)
            other = folded.setdefault(offer.path.casefold(), offer.path)
            if problem is None and other != offer.path:
                problem = f"differs only in case from {other}"
            if problem:
                self.report.refused[ascii(offer.path)[1:-1][:200]] = problem
                continue
            offers[offer.path] = offer
        return offers

    def _copy_all(self, offers: Sequence[Offer], jobs: int) -> None:
        new = [offer for offer in offers if not self._is_here(offer)]
        self.report.same += len(offers) - len(new)
        self.progress.begin(len(new))
        failures, saved = 0, time.monotonic()
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            waiting: dict[Future[Mapping[str, bytes]], Offer] = {}
            queue = iter(new)
            try:
                while True:
                    for offer in queue:
                        waiting[pool.submit(self._fetch, offer)] = offer
                        if len(waiting) >= 2 * jobs:
                            break
                    if not waiting:
                        return
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        offer = waiting.pop(future)
                        failures = self._conclude(offer, future, failures)
                    if time.monotonic() - saved > _SAVE_SECONDS:
                        self.state.save()
                        saved = time.monotonic()
            except BaseException:
                for future in waiting:
                    future.cancel()
                raise

    def _conclude(self, offer: Offer, future: Future[Mapping[str, bytes]], failures: int) -> int:
        """Write what came; return how many requests in a row have failed now."""
        try:
            cards = future.result()
        except WireError as error:
            self.report.refused[offer.path] = str(error)
            if failures + 1 >= _GIVE_UP:
                raise HubError(
                    f"{self.origin.name} fails again and again ({error}); what came is there, and another "
                    "run goes on from here"
                ) from error
            return failures + 1
        except HubError as error:
            self.report.refused[offer.path] = str(error)
        else:
            self._write(offer, cards)
        self.progress.card(offer.path)
        return 0

    def _is_here(self, offer: Offer) -> bool:
        kept = self.state.cards.get(offer.path)
        if kept is None or kept.stamp != offer.stamp:
            return False
        try:
            data = (self.root / offer.path).read_bytes()
        except FileNotFoundError:
            return False
        if hashlib.sha256(data).hexdigest() != kept.sha256:
            return False
        return not self.verify or all(self._blob_is_right(*pair) for pair in _contents(data))

    def _blob_is_right(self, sha256: str, size: int) -> bool:
        path = blob_path(self.root, sha256)
        try:
            if path.stat().st_size != size:
                return False
        except FileNotFoundError:
            return False
        return not self.verify or file_sha256(path)[0] == sha256

    def _fetch(self, offer: Offer) -> Mapping[str, bytes]:
        """Bring everything that a card needs; return the cards to write."""
        draft = self.origin.draft(offer)
        if draft.left_out:
            self.report.left_out[offer.path] = draft.left_out
        known = sum(file.size or 0 for file in draft.files)
        if self.report.bytes + known > self.limits.total:
            raise HubError(f"would take this run above {self.limits.total} bytes (--max-total)")
        found = {(file.version, file.path): self._bring(draft, file) for file in draft.files}
        cards = draft.finish(found)
        for path, data in cards.items():
            _require_card(path, data)
        return cards

    def _bring(self, draft: Draft, file: Wanted) -> Got:
        if file.sha256 is not None and file.size is not None:
            target = blob_path(self.root, file.sha256)
            if self._blob_is_right(file.sha256, file.size):
                return Got(target, file.size, file.sha256)
        key = file.sha256 or hashlib.sha256(f"{file.place}\0{file.git_oid}".encode()).hexdigest()
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if file.sha256 is not None and file.size is not None and not self.verify:
                target = blob_path(self.root, file.sha256)
                if self._blob_is_right(file.sha256, file.size):
                    return Got(target, file.size, file.sha256)
            return self._download(file, self.state.parts / key)

    def _download(self, file: Wanted, part: Path) -> Got:
        limit = self.limits.file if file.size is None else min(file.size, self.limits.file)
        if file.size is not None and file.size > self.limits.file:
            raise HubError(f"{file.path} has {file.size} bytes, more than --max-file allows")
        if part.is_file() and part.stat().st_size > limit:
            part.unlink()
        sha256, size = self.origin.fetch(file, part, limit, self._note)
        self._require_right(file, part, sha256, size)
        target = blob_path(self.root, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)
        with self._guard:
            self.report.files += 1
        return Got(target, size, sha256)

    def _note(self, count: int) -> None:
        with self._guard:
            self.report.bytes += count
        self.progress.bytes(count)

    def _require_right(self, file: Wanted, part: Path, sha256: str, size: int) -> None:
        """Refuse what is not what was announced, or fails a check; it is removed, never kept."""
        wrong = None
        if file.size is not None and size != file.size:
            wrong = f"has {size} bytes and not {file.size}"
        elif file.sha256 is not None and sha256 != file.sha256:
            wrong = f"has the SHA-256 {sha256} and not {file.sha256}"
        elif file.sha256 is None and file.git_oid is not None and git_oid(part) != file.git_oid:
            wrong = f"does not have the hash {file.git_oid} that the source states"
        elif not self.examined and (file.path, sha256) not in self._good:
            problems = errors(examine(part, file.path))
            wrong = f"is refused: {'; '.join(problems[:3])}" if problems else None
        if wrong is not None:
            part.unlink()
            raise HubError(f"{file.path} (version {file.version}) {wrong}")
        self._good.add((file.path, sha256))

    def _write(self, offer: Offer, cards: Mapping[str, bytes]) -> None:
        digests = {}
        for path, data in cards.items():
            digests[path] = hashlib.sha256(data).hexdigest()
            target = self.root / path
            if path != offer.path and target.exists():
                continue  # a task card that came with another adapter, or that says more
            known = target.is_file()
            target.parent.mkdir(parents=True, exist_ok=True)
            if not known or target.read_bytes() != data:
                replace_file(target, data)
                (self.report.updated if known else self.report.added).append(path)
            elif path == offer.path:
                self.report.same += 1
            stamp = offer.stamp if path == offer.path else ""
            self.state.cards[path] = Kept(stamp, digests[path])

    def _places(self, wanted: Filter, adapters: Sequence[Offer]) -> set[tuple[str, str]]:
        """Return type and file name of the task and subtask cards that the copied adapters need."""
        found: set[tuple[str, str]] = set()
        for offer in adapters:
            with contextlib.suppress(HubError, OSError):
                card = cardfile.load(self.root / offer.path)
                type_, task = str(card.get("type")), str(card.get("task"))
                found |= {(type_, task), (type_, f"{task}_{card.get('subtask')}")}
        return found

    def _part_with(self, present: set[str], prune: bool) -> None:
        # Cards that we made ourselves (stamp "") belong to adapters and go when nobody needs them.
        gone = [
            p for p, kept in sorted(self.state.cards.items()) if p not in present and kept.stamp
        ]
        if not prune:
            self.report.gone = gone
            return
        if gone and not present:
            raise HubError(
                f"{self.origin.name} offers nothing that fits; that this means to remove everything is "
                "not believed: remove the folder if it is so"
            )
        for path in gone:
            (self.root / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (self.root / path).parent.rmdir()
            del self.state.cards[path]
            self.report.removed.append(path)
        self._remove_contents()

    def _remove_contents(self) -> None:
        """Remove the contents that no card of the folder names."""
        named: set[str] = set()
        for path in (self.root / "adapters").glob("*/*"):
            with contextlib.suppress(HubError, OSError):
                named |= {sha256 for sha256, _ in _contents(path.read_bytes())}
        for blob in (self.root / "blobs" / "sha256").glob("*/*"):
            if blob.name not in named:
                blob.unlink()
                self.report.blobs_removed += 1
        for part in self.state.parts.glob("*"):
            part.unlink()


def _contents(card: bytes) -> Iterator[tuple[str, int]]:
    """Yield hash and size of each file that an adapter card names."""
    for version in cardfile.loads(card).get("files") or ():
        for member in version.get("members") or () if isinstance(version, Mapping) else ():
            yield str(member["sha256"]), int(member["size"])


def _require_card(path: str, data: bytes) -> None:
    folder = path.split("/")[0]
    if folder == folderreports.FOLDER:
        folderreports.read_report(path, data)
        return
    if folder == folderkeys.FOLDER:
        folderkeys.read_keys(Path(path).stem, cardfile.loads(data))
        return
    kinds: dict[str, CardKind] = {folder: kind for folder, kind, _ in LAYOUT}
    kind = kinds[path.split("/")[0]]
    cleaned, _ = clean_card(cardfile.loads(data))
    problems = schema_problems(kind, cleaned)
    if problems:
        raise HubError(f"{path} does not follow its schema: {'; '.join(problems[:3])}")


def _belongs(path: str, places: set[tuple[str, str]], adapters: set[str]) -> bool:
    parts = path.split("/")
    if parts[0] == folderreports.FOLDER:
        return "/".join(("adapters", *parts[1:3])) in adapters
    if parts[0] in ("tasks", "subtasks"):
        return (parts[1], re.sub(r"\.ya?ml$", "", parts[2])) in places
    return True
