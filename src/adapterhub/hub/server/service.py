"""Everything a running server holds on to, and its beginning and end."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from pathlib import Path

from anyio import CapacityLimiter
from sqlalchemy import select

from adapterhub.errors import HubError
from adapterhub.hub.live import norms
from adapterhub.hub.live.liveindex import LiveIndex
from adapterhub.hub.server.identity import Guesses
from adapterhub.hub.server.limits import Limits
from adapterhub.hub.server.metrics import Metrics
from adapterhub.hub.server.parts import Assembling
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.server.tryit_jobs import TryIt
from adapterhub.hub.store import accounts, changes, jobs, repos
from adapterhub.hub.store.blobs import Blobs, FolderBlobs
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Account
from adapterhub.hub.store.pending import pending_of
from adapterhub.hub.store.refusals import Conflict
from adapterhub.hub.store.staging import Staging
from adapterhub.hub.tryit.models import read_models
from adapterhub.hub.verify.bases import Bases
from adapterhub.hub.verify.deep import DeepChecks
from adapterhub.hub.verify.intake import Intake
from adapterhub.hub.verify.worker import WorkerThread
from adapterhub.hub.web.site import prepare_templates

log = logging.getLogger("adapterhub.hub.server")
_FLUSH_SECONDS = 5.0


def open_blobs(settings: Settings) -> Blobs:
    """Return the home of blobs that the settings name."""
    if settings.blobs_url.startswith("s3://"):
        from adapterhub.hub.store.s3 import S3Blobs

        return S3Blobs(settings.blobs_url, redirect=settings.redirect)
    return FolderBlobs(Path(settings.blobs_url) if settings.blobs_url else settings.data / "blobs")


def deep_checks(settings: Settings) -> DeepChecks:
    """Return the checks against base models, as the settings want them.

    Models that visitors can try adapters on are known as base models, too.
    """
    local: dict[str, Path] = {}
    for model in read_models(settings.models).all:
        local |= dict.fromkeys((model.id, *model.aliases), model.path)
    folders = [Path(place).expanduser() for place in settings.bases]
    return DeepChecks(settings.checks == "full", Bases(folders, local=local))


class Service:
    """The parts of a hub server. Use as a context manager; the inside is while it runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.data.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_folder(settings.data) if settings.embedded else contextlib.ExitStack()
        self.database = Database(settings.database)
        self.database.upgrade()
        self.home = open_blobs(settings)
        self.pending = pending_of(self.home)
        self.assembling = Assembling()
        self.takes_xet = settings.takes_xet
        #: Limits how many files are put together at once (made where the event loop is).
        self.rebuilding: CapacityLimiter | None = None
        self.staging = Staging(settings.data / "staging")
        self.intake = Intake(self.database, self.home, self.staging)
        self.intake.allowance = settings.quota
        self.intake.deep = deep_checks(settings)
        norms.attach(self.intake)
        self.live = LiveIndex(self.database)
        self.guesses = Guesses(settings.bad_tokens)
        self.limits = Limits(settings.rates)
        self.tryit = TryIt(settings.models, settings.data / "tryit", self.home)
        self.metrics = Metrics(self)
        with self.database.write() as session:
            self.signing_key = accounts.shared_secret(session, "signing-key")
            if settings.embedded:
                jobs.release_all(session)
        self._downloads: Counter[int] = Counter()
        self._downloads_lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [WorkerThread(self.intake) for _ in range(settings.workers)]

    def __enter__(self) -> Service:
        self.staging.clear(older_than=0 if self.settings.embedded else 24 * 3600.0)
        for thread in self._threads:
            thread.start()
        # The first visitor shall not wait for what can be made ready before.
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()
        self._flusher = threading.Thread(target=self._flush_often, name="downloads", daemon=True)
        self._flusher.start()
        self.tryit.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.tryit.__exit__()
        for thread in self._threads:
            thread.stop()
        self._flusher.join(timeout=10)
        self.flush_downloads()
        self.database.close()
        self._lock.close()

    def _warm_up(self) -> None:
        try:
            self.live.refresh()
            prepare_templates()
            with self.database.write() as session:
                changes.forget(session)
        except Exception:
            log.exception("the pages could not be made ready; the first request tries again")

    def first_token(self, name: str = "admin") -> str | None:
        """Make the first administrator, if the hub has no account yet, and return his token."""
        with self.database.write() as session:
            if session.scalar(select(Account.id).limit(1)) is not None:
                return None
            try:
                account = accounts.create_account(session, name, admin=True)
            except Conflict:  # another server of this hub starts at the same moment
                session.rollback()
                return None
            _, secret = accounts.issue_token(session, account, name="first run", scope="admin")
            console = accounts.Caller(name="console")
            accounts.audit(session, console, "user.create", account.name, "first administrator")
            return secret

    def note_download(self, repo_id: int) -> None:
        """Count a download; it reaches the database within seconds (a kill loses those)."""
        with self._downloads_lock:
            self._downloads[repo_id] += 1

    def flush_downloads(self) -> None:
        """Write the downloads counted since the last time."""
        with self._downloads_lock:
            counted, self._downloads = self._downloads, Counter()
        if counted:
            try:
                with self.database.write() as session:
                    for repo_id, number in sorted(counted.items()):
                        repos.count_downloads(session, repo_id, number)
            except BaseException:
                with self._downloads_lock:
                    self._downloads += counted
                raise

    def _flush_often(self) -> None:
        while not self._stop.wait(_FLUSH_SECONDS):
            try:
                self.flush_downloads()
            except Exception:
                log.exception("downloads could not be written")


def _lock_folder(data: Path) -> contextlib.ExitStack:
    """Keep a second server off a data folder; the lock ends with the process, however it ends.

    Raises:
        HubError: If there is one.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(data / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise HubError(
            f"another hub server runs on {data}; stop it, or give --data another folder (several servers "
            "of one hub need PostgreSQL: ADAPTERHUB_DATABASE_URL)"
        ) from error
    stack = contextlib.ExitStack()
    stack.callback(lock.release)
    return stack
