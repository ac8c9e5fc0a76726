"""The Hugging Face protocol: how files come in.

A client asks how to send each file (``preupload``). Up to a limit the answer is ``regular``: the content
comes within the commit. What is larger goes by LFS (:mod:`.hf_lfs`), and the commit names its hash.
"""

from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from adapterhub.hub.leftovers import is_leftover, left_out
from adapterhub.hub.names import member_path_problems
from adapterhub.hub.server.answers import Json, header_text
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.ndjson import CommitReader, Line
from adapterhub.hub.server.routing import Route, post
from adapterhub.hub.sniff import SAVE_AS_SAFETENSORS, sniff
from adapterhub.hub.store import history, quotas
from adapterhub.hub.store.commits import Change
from adapterhub.hub.store.models import Commit
from adapterhub.hub.store.refusals import (
    Forbidden,
    Malformed,
    TooLarge,
    Unacceptable,
    all_problems,
)
from adapterhub.hub.store.staging import Staged
from adapterhub.hub.verify.convert import target_of
from adapterhub.hub.verify.intake import Received

_MAX_FILES = 256
_SAMPLE = 512
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20


def preupload(call: Call) -> Response:
    """Say for each file how it is to be sent, and what the hub has under its path.

    Files that would be refused are refused here already, as far as name and first bytes tell.
    """
    no_pull_requests(call)
    wanted = call.json().get("files")
    if not isinstance(wanted, list) or len(wanted) > _MAX_FILES:
        raise Malformed(f"files must be a list of at most {_MAX_FILES}")
    settings = call.service.settings
    problems: list[str] = []
    with call.service.database.read() as session:
        seen = call.view(session, need="write")
        commit = history.resolve(session, seen, call.parts["rev"])
        known = {item.path: item for item in history.files(session, commit)}
        owner, left = seen.repo.owner.name, quotas.room(session, seen.repo.owner_id, settings.quota)
    sizes = {item.size for item in known.values()}
    answer, ignored = [], []
    for item in wanted:
        path, size, sample = _described(call, item)
        if is_leftover(path):
            ignored.append(path)
            answer.append({"path": path, "uploadMode": "regular", "shouldIgnore": True})
            continue
        problems += member_path_problems(path)
        if not member_path_problems(path) and target_of(path) is None:  # those are converted
            problems += _sample_problems(path, size, sample)
        if size > settings.max_file:
            raise TooLarge(
                f"{path} has {size} bytes; this hub takes files of up to {settings.max_file}"
            )
        # Pickles are never stored, so they must come within the commit, where they are converted.
        small = size <= settings.regular_limit or target_of(path) is not None
        mode = "regular" if small else "lfs"
        # By Xet a client would hear later that there is no room, but not why. What it may have sent before
        # is left for later, as it takes no room.
        if mode == "lfs" and call.service.takes_xet and size not in sizes:
            _require_room(owner, left, path, size)
        row: dict[str, Any] = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        if path in known:
            row["oid"] = known[path].git_oid if mode == "regular" else known[path].sha256
        answer.append(row)
    if problems:
        call.service.metrics.refused.inc()
        raise all_problems("These files cannot be published", problems)
    headers = {"X-Repo-Commit": commit.id}
    if ignored:
        headers["X-HF-Warning"] = header_text(f"Left out; {left_out(ignored)}")
    return Json({"files": answer, "commitOid": commit.id}, headers=headers)


def _described(call: Call, item: Any) -> tuple[str, int, bytes]:
    if not isinstance(item, dict) or not isinstance(item.get("size"), int) or item["size"] < 0:
        raise Malformed("each file needs path, size and sample")
    try:
        sample = base64.b64decode(call.text(item, "sample", "", 4096), validate=True)
    except (
        ValueError
    ) as error:  # binascii.Error is one, and so is the word about letters beyond ASCII
        raise Malformed("sample is not base64") from error
    return call.text(item, "path", limit=4096), item["size"], sample


def _sample_problems(path: str, size: int, sample: bytes) -> list[str]:
    """Look at the first bytes; a file that is not whole is only refused for what it surely is."""
    if size <= len(sample):
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, "sample")
            whole.write_bytes(sample)
            return sniff(whole, path)[1]
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "sample")
        part.write_bytes(sample[:_SAMPLE])
        problems = sniff(part, path)[1]
    return [line for line in problems if SAVE_AS_SAFETENSORS in line and " is a" in line]


def _require_room(owner: str, left: int | None, path: str, size: int) -> None:
    if left is not None and left < size:
        room, needed = quotas.human(left), quotas.human(size)
        raise TooLarge(f"{owner} has {room} left; {path} needs {needed}")


def no_pull_requests(call: Call) -> None:
    """Refuse what asks for a pull request.

    Raises:
        Forbidden: Then.
    """
    if call.flag("create_pr"):
        raise Forbidden("This hub has no pull requests; commit to a branch of your own.")


async def commit(call: Call) -> Response:
    """Take a commit: read it as a stream, check it, store it, publish it."""
    no_pull_requests(call)
    service, settings = call.service, call.service.settings
    await run_sync(_require_write, call)
    with service.staging.area() as folder:
        reader = CommitReader(folder, max_file=settings.max_file, max_total=settings.max_commit)
        try:
            buffer = bytearray()
            async for piece in call.request.stream():
                service.metrics.received.inc(len(piece))
                buffer += piece
                if len(buffer) >= _PIECE:
                    await run_sync(reader.feed, bytes(buffer))
                    buffer.clear()
            await run_sync(reader.feed, bytes(buffer))
            lines = await run_sync(reader.finish)
        except ClientDisconnect as error:
            raise Malformed("the commit was not sent to its end") from error
        finally:
            reader.close()
        return await run_sync(_accept, call, lines)


def _require_write(call: Call) -> None:
    """Refuse strangers before they send much."""
    with call.service.database.read() as session:
        call.view(session, need="write")


def _accept(call: Call, lines: list[Line]) -> Response:
    received = read_lines(call, lines)
    try:
        made = call.service.intake.commit(
            call.caller,
            call.parts["owner"],
            call.parts["name"],
            call.parts["rev"],
            received,
            check_now=call.service.settings.check_now,
        )
    except (Unacceptable, TooLarge):
        call.service.metrics.refused.inc()
        raise
    return _committed(call, made, [path for path in received.staged if target_of(path)])


def _committed(call: Call, made: Commit, converted: list[str]) -> Response:
    with call.service.database.read() as session:
        full_name = call.view(session).repo.full_name
    headers = {"X-Repo-Commit": made.id}
    if converted:
        text = (
            f"{', '.join(converted)} was converted to safetensors, load with use_safetensors=True"
        )
        headers["X-HF-Warning"] = header_text(f"Converted; {text}")
    if made.status in ("held", "rejected"):
        text = f"commit {made.id[:8]} is stored, but only you see it: {made.reason}"
        headers["X-HF-Warning"] = header_text("Not published; " + text.replace(";", ","))
    elif made.status == "pending" and made.reason:
        text = f"commit {made.id[:8]} is stored; {made.reason}, and others see it when they have passed"
        headers["X-HF-Warning"] = header_text("Not published yet; " + text.replace(";", ","))
    return Json(
        {
            "success": True,
            "commitUrl": call.repo_url(full_name, "commit", made.id),
            "commitOid": made.id,
            "status": made.status,
            "hookOutput": "",
        },
        headers=headers,
    )


def read_lines(call: Call, lines: list[Line]) -> Received:
    """Turn the lines of a commit into what the intake takes.

    Raises:
        Malformed: If a line cannot be understood.
    """
    if not lines or lines[0].key != "header":
        raise Malformed("a commit begins with a line 'header'")
    head = lines[0].value
    change = Change(
        title=call.text(head, "summary", limit=2000),
        message=call.text(head, "description", "", limit=100_000),
        parent=call.text(head, "parentCommit", "", limit=64) or None,
    )
    staged: dict[str, Staged] = {}
    linked: dict[str, str] = {}
    for line in lines[1:]:
        path = call.text(line.value, "path", limit=4096)
        if path in staged or path in linked:
            raise Malformed(f"{path!a} is in the commit twice")
        if line.key == "file":
            if (
                line.staged is None
                or line.value.get("content")
                or line.value.get("encoding", "base64") != "base64"
            ):
                raise Malformed(f"{path!a} needs its content as base64")
            staged[path] = line.staged
        elif line.key == "lfsFile":
            oid = call.text(line.value, "oid", limit=64)
            if line.value.get("algo", "sha256") != "sha256" or not _SHA256.fullmatch(oid):
                raise Malformed(f"{path!a} needs its SHA-256 as oid")
            linked[path] = oid
        elif line.key == "deletedFile":
            change.deleted_files.append(path)
        elif line.key == "deletedFolder":
            change.deleted_folders.append(path)
        else:
            raise Malformed(f"a commit has no lines of kind {line.key[:40]!r}")
    return Received(change, staged, linked)


_REPO = "/api/models/{owner}/{name}"
ROUTES: list[Route] = [
    post(f"{_REPO}/preupload/{{rev}}", preupload),
    post(f"{_REPO}/commit/{{rev}}", commit),
]
