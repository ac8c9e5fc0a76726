"""The Hugging Face protocol: large files, by git's LFS.

A ``batch`` request says for each file where it is to be sent: to one signed address, or, if it is larger
than a part and the client knows how, in parts to one signed address each. What arrives is hashed and looked
at before it is stored. The commit names the hash afterwards.
"""

from __future__ import annotations

import re
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from adapterhub.hub.server import parts, signed
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, get, post, put
from adapterhub.hub.server.signed import Announced
from adapterhub.hub.sniff import sniff
from adapterhub.hub.store import commits, ledger, quotas
from adapterhub.hub.store.models import Repo
from adapterhub.hub.store.refusals import (
    Forbidden,
    Malformed,
    Missing,
    Unacceptable,
    all_problems,
)
from adapterhub.hub.store.staging import Staged, Writer

_MAX_OBJECTS = 256
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = "application/vnd.git-lfs+json"
_BLOBS = "/api/hub/v1/blobs"
#: Names by which clients say that they can send in parts.
_IN_PARTS = ("multipart", "hf-multipart")


def batch(call: Call) -> Response:
    """Say where each large file is to be sent; what this repository has already need not be."""
    body = call.json()
    objects, transfers = body.get("objects"), body.get("transfers") or ["basic"]
    if not isinstance(objects, list) or len(objects) > _MAX_OBJECTS:
        raise Malformed(f"objects must be a list of at most {_MAX_OBJECTS}")
    if body.get("operation") != "upload" or body.get("hash_algo", "sha256") != "sha256":
        raise Malformed("only uploads with sha256 go by LFS here; download by /resolve/")
    if not isinstance(transfers, list):
        raise Malformed("transfers must be a list of names")
    transfer = next((name for name in transfers if name in _IN_PARTS), "basic")
    service = call.service
    with service.database.read() as session:
        seen = call.view(session, need="write")
        left = quotas.room(session, seen.repo.owner_id, service.settings.quota)
        announced = [_announced(call, seen.repo, item) for item in objects]
        known = {
            it.oid for it in announced if commits.may_use(session, it.repo, it.oid) is not None
        }
    answer = []
    for item in announced:
        row: dict[str, Any] = {"oid": item.oid, "size": item.size, "authenticated": True}
        if item.oid not in known:
            text = _no_room(call, seen.repo, item.size, left)
            if text:
                row["error"] = {"code": 413, "message": text}
            else:
                row["actions"] = _actions(call, seen.repo, item, transfer)
        answer.append(row)
    found = {"transfer": transfer, "objects": answer, "hash_algo": "sha256"}
    return Json(found, media_type=_MEDIA_TYPE)


def _announced(call: Call, repo: Repo, item: Any) -> Announced:
    oid, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
    if (
        not isinstance(oid, str)
        or not _SHA256.fullmatch(oid)
        or not isinstance(size, int)
        or isinstance(size, bool)
        or size < 0
    ):
        raise Malformed("each object needs its SHA-256 as oid, and its size")
    return Announced(repo.id, call.caller.account_id or 0, oid, size)


def _no_room(call: Call, repo: Repo, size: int, left: int | None) -> str:
    """Return why a file of *size* bytes cannot be taken, if it cannot."""
    limit = call.service.settings.max_file
    if size > limit:
        return f"this hub takes files of up to {limit} bytes"
    if left is not None and size > left:
        room, needed = quotas.human(left), quotas.human(size)
        return f"{repo.owner.name} has {room} left; this file needs {needed}"
    return ""


def _actions(call: Call, repo: Repo, item: Announced, transfer: str) -> dict[str, Any]:
    key, address = call.service.signing_key, f"{call.base_url}{_BLOBS}"
    whole = f"{address}?{signed.sign(key, item)}"
    header: dict[str, str] = {}
    part_size = parts.part_size(call.service.settings.part_size, item.size)
    if transfer != "basic" and item.size > part_size:
        header = parts.addresses(key, f"{address}/part", item, part_size)
        whole = f"{address}/end?{signed.sign(key, parts.part_of(item, signed.END))}"
    # git's own client sends no token to an address that it is given.
    question = signed.sign(key, parts.part_of(item, signed.ARRIVED))
    verify = call.repo_url(f"{repo.full_name}.git") + f"/info/lfs/verify?{question}"
    return {"upload": {"href": whole, "header": header}, "verify": {"href": verify, "header": {}}}


def _signed(call: Call) -> Announced:
    query = {name: values[-1] for name, values in call.query.items()}
    return signed.check(call.service.signing_key, query)


async def put_blob(call: Call) -> Response:
    """Receive a file at a signed address; no token is needed, only the very file that was announced."""
    item = _signed(call)
    if item.part != signed.WHOLE:
        raise Malformed("this address is for a part of a file")
    with call.service.staging.area() as folder:
        writer = Writer(folder / "upload", item.size, "the file")
        try:
            await receive(call, writer)
            await run_sync(_keep, call, writer, item)
        except Unacceptable as error:
            if not call.request.headers.get("user-agent", "").startswith("git-lfs/"):
                raise
            # git's own client takes 422 for a quarrel about the content type, and reports success.
            return Json({"message": str(error)}, status_code=400, media_type=_MEDIA_TYPE)
        finally:
            writer.close()
    return Response(headers={"ETag": f'"{item.oid}"'})


async def receive(call: Call, writer: Writer) -> None:
    """Write the body to a file.

    Raises:
        Malformed: If the client went away.
    """
    try:
        async for piece in call.request.stream():
            call.service.metrics.received.inc(len(piece))
            await run_sync(writer.write, piece)
    except ClientDisconnect as error:
        raise Malformed("the file was not sent to its end") from error


def _keep(call: Call, writer: Writer, item: Announced) -> None:
    """Check what was received and make it a blob of the repository."""
    staged = writer.finish()
    if (staged.sha256, staged.size) != (item.oid, item.size):
        raise Unacceptable(
            f"the file has SHA-256 {staged.sha256} and {staged.size} bytes, which is not what was announced"
        )
    keep(call, staged, item)


def keep(call: Call, staged: Staged, item: Announced) -> None:
    """Look at a file whose hash is right, and make it a blob that the repository may use.

    Raises:
        Unacceptable: If it cannot be published.
        Missing: If the repository is gone.
    """
    service = call.service
    kind, problems = sniff(staged.path, "adapter.safetensors")
    if kind is None and problems:
        service.metrics.refused.inc()
        raise all_problems("This file cannot be published", problems)
    contents, quota = {item.oid: item.size}, service.settings.quota
    with service.database.read() as session:  # before it is stored; and when it is written down
        quotas.require_room(session, _repo(session, item).owner, contents, quota)
    ledger.add(service.database, service.home, [staged])
    with service.database.write() as session:
        quotas.require_room(session, _repo(session, item).owner, contents, quota)
        ledger.note_upload(session, item.repo, item.oid, item.account)


def _repo(session: Any, item: Announced) -> Repo:
    repo = session.get(Repo, item.repo)
    if repo is None:
        raise Missing("the repository is gone")
    return repo


def find_part(call: Call) -> Response:
    """Say whether a part has arrived (200 with its ETag, or 404), for clients that go on after a break."""
    item = _signed(call)
    tag = parts.find(call.service.pending, item)
    if tag is None:
        raise Missing("this part has not arrived")
    return Response(headers={"ETag": f'"{tag}"'})


async def put_part(call: Call) -> Response:
    """Receive one part of a file at its signed address."""
    item = _signed(call)
    if item.part < 1:
        raise Malformed("this address is for a whole file")
    size = parts.size_of(call.service.settings.part_size, item)
    with call.service.staging.area() as folder:
        writer = Writer(folder / "part", size, "the part")
        try:
            await receive(call, writer)
            tag = await run_sync(parts.keep, call.service.pending, item, writer, size)
        finally:
            writer.close()
    return Response(headers={"ETag": f'"{tag}"'})


def end_parts(call: Call) -> Response:
    """Put the parts together, when the client says that all are there."""
    item = _signed(call)
    if item.part != signed.END:
        raise Malformed("this address is not for the end of a file in parts")
    service, tags = call.service, parts.wanted(call.json(), item, call.service.settings.part_size)
    with service.assembling.alone(parts.folder(item)):
        with service.database.read() as session:
            arrived = commits.may_use(session, item.repo, item.oid) is not None
        if not arrived:  # else a request before this one has done it
            with service.staging.area() as folder:
                writer = Writer(folder / "upload", item.size, "the file")
                try:
                    parts.join(service.pending, item, tags, writer)
                    _keep(call, writer, item)
                finally:
                    writer.close()
        service.pending.remove(parts.folder(item))
    return Json({"oid": item.oid, "size": item.size}, headers={"ETag": f'"{item.oid}"'})


def verify(call: Call) -> Response:
    """Confirm that a file has arrived, to whoever may write there, or has the signed address for it."""
    body = call.json()
    oid = call.text(body, "oid", limit=64)
    with call.service.database.read() as session:
        if call.query.get("signature"):
            item = _signed(call)
            if item.part != signed.ARRIVED or item.oid != oid:
                raise Forbidden("This address is for another question.")
            blob = commits.may_use(session, item.repo, oid)
        else:
            seen = call.view(session, need="write")
            blob = commits.may_use(session, seen.repo.id, oid)
        if blob is None or blob.size != body.get("size"):
            raise Missing("no such file has arrived")
    return Json({})


ROUTES: list[Route] = [
    post("/{owner}/{name}.git/info/lfs/objects/batch", batch),
    post("/{owner}/{name}.git/info/lfs/verify", verify),
    put(_BLOBS, put_blob),
    get(f"{_BLOBS}/part", find_part),
    put(f"{_BLOBS}/part", put_part),
    post(f"{_BLOBS}/end", end_parts),
]
