"""From "this, typed for that adapter" to a result: who may, which files, which base model, and the queue."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from sqlalchemy.orm import Session

from adapterhub.hub.store import history, repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.blobs import Blobs
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.refusals import Malformed, Refusal
from adapterhub.hub.store.repos import DEFAULT_BRANCH
from adapterhub.hub.tryit.folders import AdapterFolders
from adapterhub.hub.tryit.forms import WRITING, Lacking, form_of, require
from adapterhub.hub.tryit.jobs import Job, Limits, Overloaded, TryError, Typed
from adapterhub.hub.tryit.models import LocalModels, read_models
from adapterhub.hub.tryit.pool import Pool
from adapterhub.hub.web.source import Trial

MOST = 4


class NotHere(Refusal):
    """This adapter cannot be tried on this hub."""

    status = 422


class Busy(Refusal):
    """Not now."""

    status = 503

    def __init__(self, error: Overloaded) -> None:
        super().__init__(str(error), headers={"Retry-After": str(error.seconds)})


class TryIt:
    """What a server needs to let visitors try adapters. Use as a context manager.

    Args:
        places: what ``--models`` names; see :func:`~adapterhub.hub.tryit.models.read_models`.
        folder: for files of adapters that the child reads.
        home: where contents are.

    Without models nothing is started, and every request is refused with a reason.

    Raises:
        HubError: If the models are not as they should be.
    """

    def __init__(
        self, places: Sequence[str], folder: Path, home: Blobs, limits: Limits | None = None
    ) -> None:
        self.models = read_models(places) if places else LocalModels()
        self.limits = limits or Limits()
        self.pool: Pool | None = None
        if self.models:
            each = self.limits.adapter_bytes
            self._folders = AdapterFolders(folder / "adapters", home, each=each)
            work = folder / "work"
            work.mkdir(exist_ok=True)
            self.pool = Pool(self.limits, work, [model.path for model in self.models.all])

    def __enter__(self) -> TryIt:
        if self.pool is not None:
            self.pool.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.__exit__()

    def trial(self, facts: Mapping[str, Any]) -> Trial | None:
        """Return what a page says about trying an adapter with these facts (of a commit).

        ``None`` where nothing can be tried at all; why one adapter cannot be is in the record.
        """
        if not self.models:
            return None
        name = str(facts.get("base_model") or "an unknown base model")
        model = self.models.find(facts.get("base_model"))
        if model is None:
            return Trial(name, reason=f"this hub has no copy of {name}")
        limits = self.limits
        try:
            form = form_of(facts, model.path)
        except TryError as error:
            return Trial(model.id, reason=str(error))
        return Trial(
            model.id,
            form in WRITING,
            limits.characters,
            limits.new_tokens,
            form=form,
            context=limits.context if form == "question" else 0,
            choices=limits.choices if form == "choice" else 0,
            choice=limits.choice if form == "choice" else 0,
            image=limits.image if form == "image" else 0,
        )

    def prepare(
        self,
        session: Session,
        caller: Caller,
        name: str,
        typed: Typed,
        new_tokens: int,
        revision: str,
    ) -> Job:
        """Return the job for one adapter.

        Raises:
            Refusal: If the caller may not have it, it is not verified, its base model is not here, or
                something is missing.
            TryError: If there is no form for its head.
        """
        owner, _, stem = name.removeprefix("@").partition("/")
        seen = repos.view(session, caller, owner, stem)
        repos.require_files(session, seen)
        commit = history.resolve(session, seen, revision)
        shown = f"@{seen.repo.full_name}"
        if commit.status != "verified":
            raise NotHere(
                f"{shown} is {commit.status} and not verified; only verified files are run"
            )
        base = commit.facts.get("base_model")
        model = self.models.find(base)
        if model is None:
            here = ", ".join(model.id for model in self.models.all) or "none"
            raise NotHere(
                f"{shown} is for {base or 'an unknown base model'}, which this hub does not have; "
                f"models here: {here}"
            )
        try:
            require(form_of(commit.facts, model.path), typed, self.limits)
        except Lacking as error:
            raise Malformed(str(error)) from error
        key, folder = self._folders.get(history.files(session, commit), shown)
        return Job(
            model.path,
            key,
            folder,
            typed.text,
            new_tokens,
            shown,
            typed.context,
            typed.choices,
            base64.b64encode(typed.image).decode(),
        )

    async def run(
        self,
        database: Database,
        caller: Caller,
        names: Sequence[str],
        typed: Typed,
        *,
        new_tokens: int = 32,
        revision: str = DEFAULT_BRANCH,
    ) -> list[dict[str, Any]]:
        """Return what each adapter makes of what was *typed*: a result, or ``{"error": why not}``.

        The jobs go to the child together: adapters over one base model share one batch.

        Raises:
            Refusal: If nothing can be tried, or the one adapter that was asked for cannot.
            Busy: If there is too much to do.
        """
        pool = self.pool
        if pool is None:
            raise NotHere("this hub has no base models, so nothing can be tried here")
        if not 1 <= len(names) <= MOST:
            raise Malformed(f"name one to {MOST} adapters")

        def prepared() -> list[Job | Refusal | TryError]:
            made: list[Job | Refusal | TryError] = []
            with database.read() as session:
                for name in names:
                    try:
                        made.append(
                            self.prepare(session, caller, name, typed, new_tokens, revision)
                        )
                    except (Refusal, TryError) as error:
                        made.append(error)
            return made

        parts = await run_sync(prepared)
        jobs = [part for part in parts if isinstance(part, Job)]
        try:
            futures = pool.submit(jobs)
        except Overloaded as error:
            raise Busy(error) from error
        except TryError as error:
            raise NotHere(str(error)) from error
        done = await asyncio.gather(
            *(asyncio.wrap_future(future) for future in futures), return_exceptions=True
        )
        waiting = iter(done)
        results = []
        for name, part in zip(names, parts, strict=True):
            outcome = next(waiting) if isinstance(part, Job) else part
            if isinstance(outcome, Overloaded):
                raise Busy(outcome)
            if isinstance(outcome, dict):
                results.append({"adapter": part.name if isinstance(part, Job) else name, **outcome})
            elif not isinstance(outcome, Refusal | TryError):
                raise outcome
            elif len(names) == 1:
                raise outcome if isinstance(outcome, Refusal) else NotHere(_sentence(name, outcome))
            else:
                results.append({"adapter": name, "error": str(outcome)})
        return results


def _sentence(name: str, error: TryError) -> str:
    return f"@{name.removeprefix('@')}: {error}"
