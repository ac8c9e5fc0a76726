"""What each operation of the API takes and answers, beyond what its route says; read by :mod:`.openapi`.

The key is the endpoint: its module and function. An operation without a line here cannot be described, and
a test says so; so does one whose line belongs to no route any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]


def text(limit: int = 0, **more: Any) -> Schema:
    """Describe a text of at most *limit* characters."""
    return {"type": "string", **({"maxLength": limit} if limit else {}), **more}


def words(*values: str) -> Schema:
    """Describe one of some words."""
    return {"type": "string", "enum": list(values)}


def whole(low: int, high: int | None = None) -> Schema:
    """Describe a whole number."""
    return {"type": "integer", "minimum": low, **({} if high is None else {"maximum": high})}


def listing(item: Schema, most: int | None = None) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": item, **({} if most is None else {"maxItems": most})}


def thing(*required: str, **properties: Schema) -> Schema:
    """Describe an object; more properties than named may come."""
    made: Schema = {"type": "object", "properties": properties}
    return {**made, "required": list(required)} if required else made


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        body: what is sent, as JSON (or as *body_type* says).
        query: parameters of the query, by name.
        good: statuses of success.
        bad: statuses of refusals, beside those that every operation has.
        answer: type of the answer's content; ``""``: none.
        needs: how far a token must reach: ``""`` (none), ``read``, ``write`` or ``admin``; for what belongs
            to somebody, the rights of the caller there count, too.
    """

    body: Schema | None = None
    body_type: str = "application/json"
    query: Mapping[str, Schema] = field(default_factory=dict)
    good: tuple[int, ...] = (200,)
    bad: tuple[int, ...] = ()
    answer: str = "application/json"
    needs: str = ""


_FLAG = {"type": "boolean"}
_SHA256 = text(pattern="^[0-9a-f]{64}$")
_KIND: Schema = {"type": ["string", "null"], "enum": ["model", None]}
_NAME = text(200)
_PRIVATE = {"private": {"type": "boolean"}, "visibility": words("private", "public")}
_SIGNED = {
    "repo": whole(0),
    "account": whole(0),
    "oid": _SHA256,
    "size": whole(0),
    "part": whole(-2),
    "expires": whole(0),
    "signature": _SHA256,
}
#: What is typed to try an adapter.
_TYPED = {
    "text": text(),
    "context": text(),
    "choices": listing(text(), 5),
    "max_new_tokens": whole(1),
}
_EXPAND = {"expand": listing(text())}
_PAGE = {"limit": whole(1, 1000), "cursor": text()}
_COMMITS = (413, 422)

OPERATIONS: dict[str, Operation] = {
    "ops.alive": Operation(),
    "ops.ready": Operation(),
    "ops.metrics": Operation(answer="text/plain"),
    "app.api_description": Operation(),
    "hf_repos.whoami": Operation(needs="read"),
    "hf_repos.create": Operation(
        thing(
            "name", name=_NAME, organization={"type": ["string", "null"]}, type=_KIND, **_PRIVATE
        ),
        bad=(409, 422),
        needs="write",
    ),
    "hf_repos.remove": Operation(
        thing("name", name=_NAME, organization={"type": ["string", "null"]}, type=_KIND),
        needs="write",
    ),
    "hf_repos.move": Operation(
        thing("fromRepo", "toRepo", fromRepo=_NAME, toRepo=_NAME, type=_KIND),
        bad=(409, 422),
        needs="write",
    ),
    "hf_repos.settings": Operation(
        thing(gated={"enum": ["auto", "manual", False]}, **_PRIVATE), bad=(422,), needs="write"
    ),
    "hf_repos.auth_check": Operation(),
    "hf_repos.access_requests": Operation(needs="write"),
    "hf_repos.handle_access": Operation(
        thing("user", user=text(100), status=words("pending", "accepted", "rejected")),
        needs="write",
    ),
    "hf_repos.ask_access": Operation(needs="read"),
    "hf_repos.validate_yaml": Operation(
        thing("content", content=text(2_000_000), repoType=text()),
    ),
    "hf_repos.overview": Operation(),
    "hf_files.tree": Operation(
        query={"recursive": _FLAG, "expand": _FLAG, **_PAGE},
    ),
    "hf_files.paths_info": Operation(
        thing("paths", paths=listing(text(), 1000), expand=_FLAG),
        body_type="application/json, application/x-www-form-urlencoded",
    ),
    "hf_files.resolve": Operation(good=(200, 206, 302, 304), bad=(416,), answer="*/*"),
    "hf_upload.preupload": Operation(
        thing(
            "files",
            files=listing(
                thing("path", "size", path=text(4096), size=whole(0), sample=text(4096)), 256
            ),
        ),
        query={"create_pr": _FLAG},
        bad=_COMMITS,
        needs="write",
    ),
    "hf_upload.commit": Operation(
        text(description="Lines of JSON: header, then file, lfsFile, deletedFile, deletedFolder."),
        body_type="application/x-ndjson",
        query={"create_pr": _FLAG},
        bad=(409, 412, *_COMMITS),
        needs="write",
    ),
    "hf_lfs.batch": Operation(
        thing(
            "operation",
            "objects",
            operation=words("upload"),
            transfers=listing(text()),
            objects=listing(thing("oid", "size", oid=_SHA256, size=whole(0)), 256),
            hash_algo=words("sha256"),
        ),
        answer="application/vnd.git-lfs+json",
        needs="write",
    ),
    "hf_lfs.verify": Operation(
        thing("oid", "size", oid=_SHA256, size=whole(0)), query=_SIGNED, needs="write"
    ),
    "hf_lfs.put_blob": Operation(
        text(format="binary"),
        body_type="application/octet-stream",
        query=_SIGNED,
        bad=(409, *_COMMITS),
        answer="",
    ),
    "hf_lfs.find_part": Operation(query=_SIGNED, answer=""),
    "hf_lfs.put_part": Operation(
        text(format="binary"),
        body_type="application/octet-stream",
        query=_SIGNED,
        bad=_COMMITS,
        answer="",
    ),
    "hf_lfs.end_parts": Operation(
        thing(
            "parts",
            oid=_SHA256,
            parts=listing(thing("partNumber", "etag", partNumber=whole(1), etag=_SHA256)),
        ),
        query=_SIGNED,
        bad=(409, *_COMMITS),
    ),
    "hf_xet.write_token": Operation(query={"create_pr": _FLAG}, needs="write"),
    "hf_xet.find_chunk": Operation(),
    "hf_xet.put_xorb": Operation(
        text(format="binary"), body_type="application/octet-stream", bad=_COMMITS
    ),
    "hf_xet.put_shard": Operation(
        text(format="binary"), body_type="application/octet-stream", bad=(409, *_COMMITS)
    ),
    "hf_xet.put_shard_and_tell": Operation(
        text(format="binary"),
        body_type="application/octet-stream",
        bad=_COMMITS,
        answer="application/x-ndjson",
    ),
    "hf_refs.create_branch": Operation(
        thing(startingPoint=text(300)), good=(201,), bad=(409,), needs="write"
    ),
    "hf_refs.delete_branch": Operation(needs="write"),
    "hf_refs.create_tag": Operation(
        thing("tag", tag=text(300), message=text(10_000)), good=(201,), bad=(409,), needs="write"
    ),
    "hf_refs.delete_tag": Operation(needs="write"),
    "admin.create_user": Operation(
        thing("name", name=text(100), fullname=text(200), email=text(200), admin=_FLAG),
        good=(201,),
        bad=(409,),
        needs="admin",
    ),
    "admin.change_user": Operation(thing("disabled", disabled=_FLAG), needs="admin"),
    "admin.create_token": Operation(
        thing(
            user=text(100),
            name=text(200),
            scope=words("read", "write", "admin"),
            expires_in_days=whole(1, 3650),
        ),
        good=(201,),
        needs="admin",
    ),
    "admin.list_tokens": Operation(needs="admin"),
    "admin.revoke_token": Operation(needs="admin"),
    "admin.create_organisation": Operation(
        thing("name", name=text(100), fullname=text(200)), good=(201,), bad=(409,), needs="admin"
    ),
    "admin.members": Operation(needs="read"),
    "admin.set_member PUT": Operation(
        thing("role", role=words("read", "write", "admin")), bad=(409,), needs="admin"
    ),
    "admin.set_member DELETE": Operation(bad=(409,), needs="admin"),
    "admin.checks": Operation(query={"revision": text()}),
    "admin.recheck": Operation(thing(revision=text(300)), good=(202,), needs="write"),
    "admin.audit_log": Operation(
        query={"limit": whole(1, 1000), "before": whole(1, 10**9 - 1)}, needs="admin"
    ),
    "cards_api.listed": Operation(),
    "cards_api.change": Operation(
        thing(cards={"type": "object", "maxProperties": 500}, remove=listing(text(), 500)),
        bad=(409, 422),
        needs="admin",
    ),
    "tryit_api.what": Operation(),
    "tryit_api.try_several": Operation(
        thing("adapters", "text", adapters=listing(text(), 4), **_TYPED), bad=(409, 413, 422)
    ),
    "tryit_api.try_one": Operation(
        thing("text", revision=text(300), **_TYPED), bad=(409, 413, 422)
    ),
    "tryit_api.try_image": Operation(
        text(format="binary"),
        body_type="image/png, image/jpeg",
        query={"revision": text(300)},
        bad=(409, 413, 422),
    ),
    "reports_api.send": Operation(
        thing("report", "signature"), good=(200, 201), bad=(409, *_COMMITS), needs="write"
    ),
    "reports_api.listing": Operation(),
    "reports_api.one": Operation(),
    "reports_api.withdraw": Operation(bad=(409,), needs="write"),
    "reports_api.board": Operation(query={"dataset": text(200)}),
    "keys.register_key": Operation(
        thing(
            "key",
            key=text(200),
            name=text(200),
            expires={"type": ["string", "null"]},
            user=text(200),
            revoked={"type": ["string", "null"]},
        ),
        good=(200, 201),
        bad=(409, 422),
        needs="write",
    ),
    "keys.list_keys": Operation(),
    "keys.revoke_key": Operation(needs="write"),
    "published.index": Operation(good=(200, 304)),
    "published.signature": Operation(good=(200, 304)),
    "published.card": Operation(good=(200, 304), answer="application/yaml"),
    "hf_info.models": Operation(
        query={
            "filter": listing(text()),
            "search": text(),
            "author": text(),
            "sort": text(),
            "pipeline_tag": text(),
            "gated": _FLAG,
            "full": _FLAG,
            "config": _FLAG,
            "cardData": _FLAG,
            **_EXPAND,
            **_PAGE,
        }
    ),
    "hf_info.tags_by_type": Operation(),
    "hf_info.info": Operation(query={"blobs": _FLAG, "securityStatus": _FLAG, **_EXPAND}),
    "hf_info.refs": Operation(query={"include_prs": _FLAG}),
    "hf_info.commits": Operation(query={"limit": whole(1, 1000), "p": whole(0, 10**6)}),
}
