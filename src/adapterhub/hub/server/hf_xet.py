"""The Hugging Face protocol: large files in Xet's format, which is how clients of 2026 send them.

A client asks for a ticket and the address of a Xet server (both are of this hub), sends xorbs there, and
then a shard, which says what files they make. The files are put together, and from there on they are as
if they had come by LFS (:mod:`.hf_lfs`): the commit names their SHA-256. Nothing can be read here, and
downloads never go this way. Made for ``hf_xet`` 1.8; later ones may ask for other addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.responses import Response

from adapterhub.hub.server import hf_lfs, xet_tickets
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.hf_upload import no_pull_requests
from adapterhub.hub.server.routing import Route
from adapterhub.hub.server.xet_answers import Told
from adapterhub.hub.server.xet_pushes import Push
from adapterhub.hub.store import history, xorbs
from adapterhub.hub.store.refusals import Malformed, Missing, TooLarge
from adapterhub.hub.store.staging import Writer
from adapterhub.hub.xet.shards import MAX_SHARD
from adapterhub.hub.xet.xorbs import MAX_XORB

_HASH = re.compile(r"[0-9a-f]{64}")
#: Files that one process puts together at the same time; it is work for the processor.
_AT_ONCE = 2


def write_token(call: Call) -> Response:
    """Give a ticket for sending large files to a repository, and the address for that."""
    no_pull_requests(call)
    service = call.service
    if not service.takes_xet:
        raise Missing("this hub takes large files by LFS only; set HF_HUB_DISABLE_XET=1")
    xorbs.expire(service.database, service.pending)
    with service.database.read() as session:
        seen = call.view(session, need="write")
        history.resolve(session, seen, call.parts["rev"])
        repo, account = seen.repo.id, call.caller.account_id or 0
        push = xorbs.push_for(session, repo, account)
    text, ticket = xet_tickets.issue(service.signing_key, repo, account, call.caller.token_id or 0)
    address = f"{call.base_url}{_XET.format(push=push)}"
    headers = {
        "X-Xet-Cas-Url": address,
        "X-Xet-Access-Token": text,
        "X-Xet-Token-Expiration": str(ticket.expires),
        "Cache-Control": "no-store",
    }
    body = {"accessToken": text, "exp": ticket.expires, "casUrl": address}
    return Json(body, headers=headers)


def find_chunk(call: Call) -> Response:
    """Tell that no chunk is known here: nobody learns what others have sent."""
    raise Missing("chunks are not shared on this hub")


async def put_xorb(call: Call) -> Response:
    """Receive a xorb."""
    name, declared = call.parts["hash"], call.request.headers.get("content-length", "")
    if not _HASH.fullmatch(name) or call.parts["prefix"] != "default":
        raise Malformed("a xorb is called by its hash, below default/")
    size = int(declared) if declared.isdigit() and len(declared) < 16 else 0
    if size > MAX_XORB:
        raise TooLarge(f"a xorb may have at most {MAX_XORB} bytes")
    push = await run_sync(Push, call, name, size)
    with call.service.staging.area() as folder:
        writer = Writer(folder / "xorb", MAX_XORB, "the xorb")
        try:
            await hf_lfs.receive(call, writer)
            await run_sync(push.keep, name, writer)
        finally:
            writer.close()
    return Json({"was_inserted": True})


async def put_shard(call: Call) -> Response:
    """Receive a shard, and put together the files that it tells of."""
    push = await run_sync(Push, call)
    with call.service.staging.area() as folder:
        path = await _shard(call, folder)
        await run_sync(push.finish, path, folder, _untold, limiter=_limiter(call))
    return Json({"result": 1})


async def put_shard_and_tell(call: Call) -> Response:
    """Receive a shard, and put its files together while the answer tells how far that is.

    The answer is lines of JSON, each with a ``type``: ``validating`` while it goes on; at last ``result``, or
    ``error`` with a ``message`` for people.
    """
    push = await run_sync(Push, call)
    with ExitStack() as stack:
        folder = stack.enter_context(call.service.staging.area())
        path = await _shard(call, folder)

        def work(tell: Callable[[int, int], object]) -> None:
            push.finish(path, folder, tell)

        return Told(work, _limiter(call), after=stack.pop_all().close)


async def _shard(call: Call, folder: Path) -> Path:
    writer = Writer(folder / "shard", MAX_SHARD, "the shard")
    try:
        await hf_lfs.receive(call, writer)
        return (await run_sync(writer.finish)).path
    finally:
        writer.close()


def _untold(done: int, total: int) -> None:
    return None


def _limiter(call: Call) -> CapacityLimiter:
    """Return what keeps many at once from taking all threads."""
    service = call.service
    if service.rebuilding is None:
        service.rebuilding = CapacityLimiter(_AT_ONCE)
    return service.rebuilding


_XET = "/api/hub/v1/xet/{push}"
ROUTES: list[Route] = [
    Route(("GET",), "/api/models/{owner}/{name}/xet-write-token/{rev}", write_token),
    *(
        Route((method,), f"{_XET}/{rest}", endpoint, caller=xet_tickets.caller)
        for method, rest, endpoint in (
            ("GET", "v1/chunks/{prefix}/{hash}", find_chunk),
            ("POST", "v1/xorbs/{prefix}/{hash}", put_xorb),
            ("POST", "v1/shards", put_shard),
            ("POST", "v2/shards", put_shard_and_tell),
        )
    ),
]
