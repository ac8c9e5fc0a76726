"""The Hugging Face protocol: what files there are, and their contents."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.responses import RedirectResponse, Response, StreamingResponse

from adapterhub.hub.inspection import CONFIG_FILE
from adapterhub.hub.server import shapes
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.ranges import parse_range
from adapterhub.hub.server.routing import Route, get, post
from adapterhub.hub.store import history, repos
from adapterhub.hub.store.models import Commit, File
from adapterhub.hub.store.refusals import EntryMissing, Malformed

_MAX_PATHS = 1000
_TEXT = ("application/json", "text/")


def tree(call: Call) -> Response:
    """List the files and folders in a folder of a revision, or (``recursive``) all below it."""
    folder = call.parts.get("path", "").strip("/")
    recursive = call.flag("recursive")
    limit = call.number("limit", 1000, 1, 1000)
    with call.service.database.read() as session:
        seen = call.view(session)
        commit = history.resolve(session, seen, call.parts["rev"])
        files = [
            item
            for item in history.files(session, commit)
            if not folder or item.path.startswith(f"{folder}/")
        ]
        if folder and not files:
            raise EntryMissing(
                f"{folder[:200]} does not exist on {call.parts['rev'][:100]}",
                headers={"X-Repo-Commit": commit.id},
            )
    about = commit if call.flag("expand") else None
    prefix = f"{folder}/" if folder else ""
    rows: list[dict[str, Any]] = [
        shapes.folder(path, commit.id, about)
        for path in shapes.folders_of((item.path for item in files), folder, recursive)
    ]
    rows += [
        shapes.entry(item, about)
        for item in files
        if recursive or "/" not in item.path[len(prefix) :]
    ]
    rows.sort(key=lambda row: row["path"])
    cursor = call.first("cursor")
    if cursor:
        rows = [row for row in rows if row["path"] > cursor]
    headers = {"X-Repo-Commit": commit.id}
    if len(rows) > limit:
        pairs = [(key, value[-1]) for key, value in call.query.items() if key != "cursor"]
        path = call.request.scope["raw_path"].decode("ascii")
        query = urlencode([*pairs, ("cursor", rows[limit - 1]["path"])])
        headers["Link"] = f'<{call.base_url}{path}?{query}>; rel="next"'
    return Json(rows[:limit], headers=headers)


def paths_info(call: Call) -> Response:
    """Say what some paths are; those that are not there are left out."""
    paths, expand = _wanted_paths(call)
    with call.service.database.read() as session:
        seen = call.view(session)
        commit = history.resolve(session, seen, call.parts["rev"])
        files = {item.path: item for item in history.files(session, commit)}
    about = commit if expand else None
    folders = set(shapes.folders_of(files, "", True))
    rows = [
        shapes.entry(files[path], about) if path in files else shapes.folder(path, commit.id, about)
        for path in dict.fromkeys(path.strip("/") for path in paths)
        if path in files or path in folders
    ]
    return Json(rows, headers={"X-Repo-Commit": commit.id})


def _wanted_paths(call: Call) -> tuple[list[str], bool]:
    if call.request.headers.get("content-type", "").startswith("application/json"):
        body = call.json()
        paths, expand = body.get("paths", []), body.get("expand")
    else:
        try:
            form = parse_qs(
                call.body.decode(), keep_blank_values=True, max_num_fields=_MAX_PATHS + 10
            )
        except ValueError as error:
            raise Malformed("the body is not a form") from error
        paths, expand = form.get("paths", []), form.get("expand", [""])[-1]
    if isinstance(paths, str):
        paths = [paths]
    if (
        not isinstance(paths, list)
        or len(paths) > _MAX_PATHS
        or not all(isinstance(item, str) for item in paths)
    ):
        raise Malformed(f"paths must be a list of at most {_MAX_PATHS} texts")
    return paths, str(expand).lower() in ("true", "1")


def resolve(call: Call) -> Response:
    """Give a file: all of it, a range, or only what there is to know about it (HEAD)."""
    with call.service.database.read() as session:
        seen = call.view(session)
        commit = history.resolve(session, seen, call.parts["rev"])
        repos.require_files(session, seen)
        item = history.file(session, commit, call.parts["path"])
        repo_id = seen.repo.id
    headers = _headers(item, commit)
    if call.request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    wanted = parse_range(call.request.headers.get("range"), item.size)
    if call.method == "GET" and item.path == CONFIG_FILE and (wanted is None or wanted[0] == 0):
        call.service.note_download(repo_id)
    link = call.service.home.link(item.sha256, item.path)
    if link is not None:
        headers |= {"X-Linked-Etag": headers.pop("ETag"), "X-Linked-Size": str(item.size)}
        return RedirectResponse(link, status_code=302, headers=headers)
    start, end = wanted or (0, item.size)
    headers |= {"Content-Length": str(end - start), "Content-Type": _media_type(item.path)}
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
    status = 206 if wanted is not None else 200
    if call.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_content(call, item, start, end), status_code=status, headers=headers)


def _content(call: Call, item: File, start: int, end: int) -> Iterator[bytes]:
    for piece in call.service.home.read(item.sha256, start, end):
        call.service.metrics.sent.inc(len(piece))
        yield piece


def _headers(item: File, commit: Commit) -> dict[str, str]:
    name = item.path.rpartition("/")[2]
    plain = "".join(char if " " <= char <= "~" and char not in '"\\' else "_" for char in name)
    return {
        "X-Repo-Commit": commit.id,
        "ETag": f'"{item.oid}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{plain}\";",
        "Cache-Control": "no-cache",
        "Vary": "Authorization",
    }


def _media_type(path: str) -> str:
    """Return a type that no browser runs: text as plain text, images as they are, the rest as bytes."""
    guess = mimetypes.guess_type(path)[0] or ""
    if guess == "image/png":
        return guess
    if guess.startswith(_TEXT) or path.endswith((".md", ".yaml", ".yml", ".gitattributes")):
        return "text/plain; charset=utf-8"
    return "application/octet-stream"


_REPO = "/api/models/{owner}/{name}"
ROUTES: list[Route] = [
    get(f"{_REPO}/tree/{{rev}}", tree),
    get(f"{_REPO}/tree/{{rev}}/{{path*}}", tree),
    post(f"{_REPO}/paths-info/{{rev}}", paths_info),
    get("/{owner}/{name}/resolve/{rev}/{path*}", resolve),
    get("/{owner}/{name}/raw/{rev}/{path*}", resolve),
]
