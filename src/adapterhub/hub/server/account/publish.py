"""Publishing from the browser: files and a few words in a form, then the same way as every push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

from anyio.to_thread import run_sync
from sqlalchemy import select
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from adapterhub.hub import client
from adapterhub.hub.inspection import CONFIG_FILE
from adapterhub.hub.languages import split_languages
from adapterhub.hub.licenses import normalize_license
from adapterhub.hub.server.account.adapters import writable_owners
from adapterhub.hub.server.account.multipart import FormReader, without_top
from adapterhub.hub.server.account.show import go, require, show
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.forms import Form
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.store import accounts, commits, history, jobs, quotas, repos
from adapterhub.hub.store.commits import Change
from adapterhub.hub.store.models import Check, Commit, File
from adapterhub.hub.store.refusals import (
    Malformed,
    Refusal,
    RepoMissing,
    Unacceptable,
    file_problems,
)
from adapterhub.hub.store.repos import DEFAULT_BRANCH
from adapterhub.hub.store.staging import Staged, Writer
from adapterhub.hub.verify import facts
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.intake import Received

LICENSES = (
    *("Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0"),
    *("CC-BY-NC-4.0", "GPL-3.0-only", "openrail", "other"),
)
_TEXTS = ("owner", "name", "task", "license", "language", "description")
_CARD = "README.md"
_PIECE = 1 << 20
_MAX_CARD = 2 << 20


def publish_page(
    call: Call,
    sent: Form | None = None,
    problem: Refusal | None = None,
    files: Mapping[str, Sequence[str]] | None = None,
) -> Response:
    """Show the form.

    Args:
        sent: what was in it, if it was refused.
        files: what is wrong, by file; under an empty name what is wrong with the texts.
    """
    require(call, "write")
    values = {name: sent.raw(name)[:5000] if sent else "" for name in _TEXTS}
    if sent is None:
        values |= {"owner": call.first("owner")[:100], "name": call.first("name")[:100]}
    with call.service.database.read() as session:
        owners = writable_owners(call, session)
    return show(
        call,
        "publish.html",
        "Publish an adapter",
        problem=problem,
        values=values,
        private=bool(sent and sent.flag("private")),
        files={path: lines for path, lines in (files or {}).items() if path},
        texts=(files or {}).get("", []),
        owners=owners,
        licenses=LICENSES,
        most=min(call.service.settings.max_commit, call.service.settings.max_file),
        most_files=commits.MAX_FILES,
        endpoint=call.base_url,
    )


async def publish(call: Call) -> Response:
    """Take the form: read it as a stream, check everything, commit, and lead to what came of it."""
    require(call, "write")
    service, settings = call.service, call.service.settings
    with service.staging.area() as folder:
        reader = FormReader(
            call.request.headers.get("content-type", ""),
            folder,
            max_file=settings.max_file,
            max_total=settings.max_commit,
            max_files=commits.MAX_FILES,
            check=lambda found: call.visitor.require_form(call.request, found.raw("form_token")),
        )
        try:
            buffer = bytearray()
            async for piece in call.request.stream():
                service.metrics.received.inc(len(piece))
                buffer += piece
                if len(buffer) >= _PIECE:
                    await run_sync(reader.feed, bytes(buffer))
                    buffer.clear()
            await run_sync(reader.feed, bytes(buffer))
            await run_sync(reader.finish)
        except ClientDisconnect as error:
            raise Malformed("The files were not sent to their end.") from error
        finally:
            reader.close()
        return await run_sync(_answer, call, reader, folder)


def _answer(call: Call, reader: FormReader, folder: Path) -> Response:
    try:
        made, full_name = _Publication(call, reader, folder).run()
    except Refusal as error:
        call.service.metrics.refused.inc()
        files = error.files if isinstance(error, Unacceptable) else {}
        if _wants_json(call):
            body = {"error": str(error), "files": files}
            return Json(body, status_code=error.status, headers=error.headers)
        return publish_page(call, reader.form, error, files)
    target = f"new/{full_name}/{made.id}/"
    told = {"left_out": str(len(reader.left_out))} if reader.left_out else {}
    if _wants_json(call):
        place = f"../{target}{'?' if told else ''}{urlencode(told)}"
        return Json({"commit": made.id, "status": made.status, "page": place})
    return go(call, target, **told)


def _wants_json(call: Call) -> bool:
    return "application/json" in call.request.headers.get("accept", "")


class _Publication:
    """What one form wants to publish."""

    def __init__(self, call: Call, reader: FormReader, folder: Path) -> None:
        self.call, self.form, self.folder = call, reader.form, folder
        self.problems: dict[str, list[str]] = {}
        self.staged: dict[str, Staged] = {}
        for path, item in without_top(reader.files):
            if path in self.staged:
                self.problems.setdefault(path, []).append(f"{path} was sent twice; choose it once.")
            elif item.staged is not None:
                self.staged[path] = item.staged
        self.task = self.form.text("task", "The task", 200).strip("/") or None
        self.license = self.form.text("license", "The licence", 200) or None
        languages = split_languages(self.form.text("language", "The language", 200))
        self.language = languages[0] if len(languages) == 1 else list(languages) or None
        self.description = self.form.lines("description", "The description", 5000)

    def run(self) -> tuple[Commit, str]:
        """Publish; return the commit and the name of the repository.

        Raises:
            Refusal: If it cannot be; nothing is there then that was not there before.
        """
        call, owner, name = (
            self.call,
            self.form.text("owner", "The owner"),
            self.form.text("name", "The name"),
        )
        self._check_texts(owner, name)
        if not self.staged:
            self._texts(
                "Choose the files of the adapter: the folder that save_adapter or save_pretrained wrote."
            )
        if self.problems.get(""):
            raise _refused(self.problems)
        old_card = self._old_card(owner, name)
        self._complete_card(old_card)
        full_name, is_new = self._repository(owner, name)
        owner, name = full_name.split("/")
        title = "Publish from the browser" if is_new else "Change from the browser"
        try:
            if any(self.problems.values()):
                raise _refused(self.problems)
            made = call.service.intake.commit(
                call.caller,
                owner,
                name,
                DEFAULT_BRANCH,
                Received(Change(title), self.staged, {}),
                check_now=call.service.settings.check_now,
            )
        except BaseException:
            if is_new:
                self._take_back(owner, name)
            raise
        return made, full_name

    def _texts(self, line: str) -> None:
        self.problems.setdefault("", []).append(line)

    def _check_texts(self, owner: str, name: str) -> None:
        try:
            repos.require_name(name)
        except Malformed as error:
            self._texts(str(error))
        for line in client.task_problems(self.task):
            self._texts(line)
        if self.license:
            self.license, wrong = normalize_license(self.license)
            for line in wrong:
                self._texts(line)

    def _old_card(self, owner: str, name: str) -> str:
        """Return the card that the repository has, where no other is sent."""
        call = self.call
        with call.service.database.read() as session:
            try:
                seen = repos.view(session, call.caller, owner, name, need="write")
            except RepoMissing:
                return ""
            reference = history.find_reference(session, seen.repo.id, "branch", DEFAULT_BRANCH)
            file = session.get(File, (reference.commit_id, _CARD)) if reference else None
        if file is None or _CARD in self.staged or file.size > _MAX_CARD:
            return ""
        return b"".join(call.service.home.read(file.sha256)).decode("utf-8-sig")

    def _complete_card(self, old: str) -> None:
        """Put what the form says into the card; one that cannot be read is left to the checks."""
        found = {
            path: {item.name: item for item in examine(item.path, path)}
            for path, item in self.staged.items()
            if path in (CONFIG_FILE, _CARD)
        }
        text = old
        if _CARD in self.staged:
            if any(item.failed for item in found[_CARD].values()):
                return
            text = self.staged[_CARD].path.read_text("utf-8-sig")
        learnt = facts.derive(found, 0)
        card = client.complete_card(
            text, learnt, self.task, self.license, self.language, self.description
        )
        if card == text:
            return
        writer = Writer(self.folder / "card", _MAX_CARD, _CARD)
        writer.write(card.encode())
        self.staged[_CARD] = writer.finish()

    def _repository(self, owner: str, name: str) -> tuple[str, bool]:
        """Return the repository's name, made if it is not there, and whether it was made."""
        call = self.call
        with call.service.database.write() as session:
            try:
                return repos.view(
                    session, call.caller, owner, name, need="write"
                ).repo.full_name, False
            except RepoMissing:
                target = repos.owner_for(session, call.caller, owner)
            repo = repos.create(
                session, call.caller, target, name, private=self.form.flag("private")
            )
            quotas.require_repo(session, target, call.service.settings.quota)
            return repo.full_name, True

    def _take_back(self, owner: str, name: str) -> None:
        """Remove the repository that was made for files that were then refused."""
        call = self.call
        with call.service.database.write() as session:
            seen = repos.view(session, call.caller, owner, name, need="write", lock=True)
            more = session.scalar(
                select(Commit.id).where(Commit.repo_id == seen.repo.id, Commit.number > 1).limit(1)
            )
            if more is None:
                repos.remove(session, seen)


def _refused(problems: Mapping[str, list[str]]) -> Unacceptable:
    return file_problems("This cannot be published", problems)


def result_page(call: Call) -> Response:
    """Show what the checks say about a commit; without a script the page asks again by itself."""
    require(call, "read")
    with call.service.database.read() as session:
        seen = call.view(session, need="write")
        commit = history.resolve(session, seen, call.parts["commit"])
        rows = session.scalars(
            select(Check).where(Check.commit_id == commit.id).order_by(Check.path, Check.id)
        ).all()
        files = list(history.files(session, commit))
        repo = seen.repo
        published = repo.published_id == commit.id
    checks: dict[str, list[Check]] = {item.path: [] for item in files}
    for row in rows:
        checks.setdefault(row.path, []).append(row)
    return show(
        call,
        "result.html",
        repo.full_name,
        crumbs=(
            ("My adapters", "settings/adapters/"),
            (repo.full_name, f"settings/adapters/{repo.full_name}/"),
        ),
        repo=repo,
        commit=commit,
        sizes={item.path: item.size for item in files},
        checks=checks,
        waiting=commit.status == "pending",
        published=published,
        left_out=call.number("left_out", 0, 0, 10**6),
    )


def check_again(call: Call) -> Response:
    """Run all checks of a commit again."""
    require(call, "write")
    with call.service.database.write() as session:
        seen = call.view(session, need="write")
        commit = history.resolve(session, seen, call.parts["commit"])
        jobs.enqueue(session, "recheck", commit.id)
        accounts.audit(session, call.caller, "recheck", seen.repo.full_name, commit.id)
        name = seen.repo.full_name
    call.service.intake.wake.set()
    return go(call, f"new/{name}/{commit.id}/", done="rechecked")


ROUTES: list[Route] = [
    page("/new/", publish_page),
    form("/new/", publish),
    page("/new/{owner}/{name}/{commit}/", result_page),
    form("/new/{owner}/{name}/{commit}/", check_again),
]
