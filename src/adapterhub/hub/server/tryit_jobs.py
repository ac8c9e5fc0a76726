"""From "this text for that adapter" to a result: who may, which files, which base model, and the queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
from adapterhub.hub.tryit.jobs import GENERATORS, Job, Limits, Overloaded, TryError
from adapterhub.hub.tryit.models import LocalModel, LocalModels, read_models
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


@dataclass(frozen=True)
class Offer:
    """That an adapter can be tried.

    Attributes:
        base: the local base model.
        generates: whether it continues the text, so that a length can be asked for.
    """

    base: LocalModel
    generates: bool


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

    def offer(self, facts: Mapping[str, Any]) -> Offer | None:
        """Return how adapters with these facts (of a commit) can be tried, if they can."""
        model = self.models.find(facts.get("base_model"))
        if model is None:
            return None
        head, task = facts.get("head"), facts.get("task_type")
        if _generates(model.path) and task in (None, "CAUSAL_LM"):
            # A head of its own may be for something else, unless the class that wrote it generates.
            return Offer(model, not head or str(facts.get("model_class")).endswith(GENERATORS))
        return Offer(model, False) if head or task in ("SEQ_CLS", "TOKEN_CLS") else None

    def trial(self, facts: Mapping[str, Any]) -> Trial | None:
        """Return what a page says about trying an adapter with these facts."""
        found, limits = self.offer(facts), self.limits
        if found is None:
            return None
        return Trial(found.base.id, found.generates, limits.characters, limits.new_tokens)

    def prepare(
        self, session: Session, caller: Caller, name: str, text: str, new_tokens: int, revision: str
    ) -> Job:
        """Return the job for one adapter.

        Raises:
            Refusal: If the caller may not have it, it is not verified, or its base model is not here.
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
        if not text.strip():
            raise Malformed("the text is empty")
        key, folder = self._folders.get(history.files(session, commit), shown)
        return Job(model.path, key, folder, text, new_tokens, shown)

    async def run(
        self,
        database: Database,
        caller: Caller,
        names: Sequence[str],
        text: str,
        *,
        new_tokens: int = 32,
        revision: str = DEFAULT_BRANCH,
    ) -> list[dict[str, Any]]:
        """Return what each adapter makes of *text*: a result, or ``{"error": why not}``.

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
                        made.append(self.prepare(session, caller, name, text, new_tokens, revision))
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


@lru_cache(maxsize=64)
def _generates(path: Path) -> bool:
    """Whether the model in a folder is a causal language model."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return any(str(name).endswith(GENERATORS) for name in config.get("architectures") or ())
