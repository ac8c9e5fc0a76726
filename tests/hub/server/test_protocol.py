"""Every row of the Hugging Face protocol, by raw requests: what is answered, with which headers."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import quote, urlsplit

import pytest

from tests.hub.server.conftest import Hub, adapter_files


@pytest.fixture(scope="module")
def repo(shared_hub: Hub) -> str:
    name = shared_hub.new_name()
    card = b"---\nlicense: mit\nlanguage: [de]\ntags: [weather]\ndatasets: [sst2]\n---\n# Hello\n"
    shared_hub.published(
        name, {**adapter_files(head=True), "README.md": card, "docs/note.md": b"one\n"}
    )
    return name


def test_whoami(server: Hub) -> None:
    me = server.ask("GET", "/api/whoami-v2").json
    assert (me["type"], me["name"], me["orgs"]) == ("user", "admin", [])
    assert me["auth"]["accessToken"]["displayName"] == "first run"
    assert me["auth"]["accessToken"]["role"] == "admin"


@pytest.mark.parametrize("token", [None, "ahub_wrong", "x" * 5000])
def test_whoami_without_a_valid_token(server: Hub, token: str | None) -> None:
    answer = server.ask("GET", "/api/whoami-v2", token=token)
    assert answer.status == 401
    assert "x-error-message" in answer.headers
    # The client takes a 401 without this text, or with a code, for a missing repository.
    if token:
        assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"
    assert "x-error-code" not in answer.headers


def test_create_twice_tells_the_address(server: Hub) -> None:
    name = server.new_name()
    body = {"name": name.split("/")[1], "organization": "admin", "visibility": "public"}
    first = server.ask("POST", "/api/repos/create", body)
    again = server.ask("POST", "/api/repos/create", {**body, "name": body["name"].upper()})
    assert first.status == 200
    assert first.json["url"] == f"{server.url}/{name}"
    assert again.status == 409
    assert again.json["url"].lower() == f"{server.url}/{name}".lower()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "x", "organization": "nobody"}, 403),
        ({"name": "x", "type": "dataset"}, 403),
        ({"name": "../x"}, 403),
        ({"name": "a--b"}, 400),
        ({"name": ".x"}, 400),
        ({"name": "x.git"}, 400),
        ({"name": "x" * 97}, 400),
        ({"name": ""}, 400),
        ({"name": 7}, 400),
        ({}, 400),
    ],
)
def test_create_refused(server: Hub, body: dict[str, object], status: int) -> None:
    answer = server.ask("POST", "/api/repos/create", body)
    assert answer.status == status
    assert answer.headers["x-error-message"]


def test_resolve_headers(server: Hub, repo: str) -> None:
    files = adapter_files(head=True)
    for name, oid in (
        ("adapter_config.json", git_oid(files["adapter_config.json"])),
        ("adapter.safetensors", hashlib.sha256(files["adapter.safetensors"]).hexdigest()),
    ):
        for method in ("HEAD", "GET"):
            answer = server.ask(method, f"/{repo}/resolve/main/{name}", token=None)
            assert answer.status == 200
            assert answer.headers["etag"] == f'"{oid}"'
            assert answer.headers["content-length"] == str(len(files[name]))
            assert re.fullmatch("[0-9a-f]{40}", answer.headers["x-repo-commit"])
            assert answer.headers["accept-ranges"] == "bytes"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"].startswith(
                "default-src 'none'; sandbox"
            )
            assert "content-encoding" not in answer.headers
            assert answer.body == (files[name] if method == "GET" else b"")
    assert (
        "html" not in server.ask("HEAD", f"/{repo}/resolve/main/README.md").headers["content-type"]
    )


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_not_modified(server: Hub, repo: str) -> None:
    path = f"/{repo}/resolve/main/README.md"
    etag = server.ask("HEAD", path).headers["etag"]
    assert server.ask("GET", path, headers={"If-None-Match": etag}).status == 304


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=0-100000000", 206, slice(0, None)),
        ("bytes=3-2", 200, slice(0, None)),
        ("bytes=0-1,4-5", 200, slice(0, None)),
        ("lines=0-1", 200, slice(0, None)),
        ("bytes=-", 200, slice(0, None)),
        ("bytes=100000000-", 416, slice(0, 0)),
    ],
)
def test_ranges(server: Hub, repo: str, header: str, status: int, part: slice) -> None:
    data = adapter_files(head=True)["adapter.safetensors"]
    answer = server.ask(
        "GET", f"/{repo}/resolve/main/adapter.safetensors", headers={"Range": header}
    )
    assert answer.status == status
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(data)}"
        return
    assert answer.body == data[part]
    if status == 206:
        start = range(len(data))[part][0]
        assert (
            answer.headers["content-range"]
            == f"bytes {start}-{start + len(answer.body) - 1}/{len(data)}"
        )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/admin/never-was/resolve/main/README.md", "RepoNotFound"),
        ("/nobody/never-was/resolve/main/README.md", "RepoNotFound"),
        ("/api/models/admin/never-was", "RepoNotFound"),
        ("/api/models/bert-base-uncased", "RepoNotFound"),
        ("/bert-base-uncased/resolve/main/config.json", "RepoNotFound"),
        ("/api/datasets/admin/x", "RepoNotFound"),
        ("/{repo}/resolve/nope/README.md", "RevisionNotFound"),
        ("/api/models/{repo}/revision/refs%2Fpr%2F1", "RevisionNotFound"),
        ("/api/models/{repo}/revision/" + "0" * 40, "RevisionNotFound"),
        ("/{repo}/resolve/main/nope.md", "EntryNotFound"),
        ("/{repo}/resolve/main/docs", "EntryNotFound"),
        ("/{repo}/resolve/main/..%2F..%2Fetc%2Fpasswd", "EntryNotFound"),
        ("/api/models/{repo}/tree/main/additional_chat_templates", "EntryNotFound"),
    ],
)
def test_error_codes(server: Hub, repo: str, path: str, code: str) -> None:
    for token in (None, ""):
        answer = server.ask("GET", path.format(repo=repo), token=token)
        assert answer.status == 404
        assert answer.headers["x-error-code"] == code
        # Without the commit, clients do not remember that the file is missing.
        assert ("x-repo-commit" in answer.headers) == (code == "EntryNotFound")


def test_model_info(server: Hub, repo: str) -> None:
    info = server.ask("GET", f"/api/models/{repo}?blobs=true", token=None).json
    assert (info["id"], info["author"], info["private"], info["gated"]) == (
        repo,
        "admin",
        False,
        False,
    )
    assert info["config"]["adapters"]["model_name"] == "bert-base-uncased"
    assert info["config"]["adapter_transformers"]["model_name"] == "bert-base-uncased"
    assert {
        "adapters",
        "adapter-transformers",
        "weather",
        "de",
        "license:mit",
        "dataset:sst2",
    } <= set(info["tags"])
    assert "base_model:adapter:bert-base-uncased" in info["tags"]
    assert info["safetensors"] == {"parameters": {"F32": 3}, "total": 3}
    by_name = {item["rfilename"]: item for item in info["siblings"]}
    assert list(by_name) == sorted(by_name)
    assert by_name["adapter.safetensors"]["lfs"]["sha256"]
    assert "lfs" not in by_name["README.md"]
    assert by_name["README.md"]["blobId"]
    plain = server.ask("GET", f"/api/models/{repo}/revision/{info['sha']}").json
    assert plain["sha"] == info["sha"]
    assert set(plain["siblings"][0]) == {"rfilename"}
    some = server.ask("GET", f"/api/models/{repo}?expand=downloads&expand=likes").json
    assert set(some) == {"_id", "id", "modelId", "downloads", "likes"}


def test_tree(server: Hub, repo: str) -> None:
    top = server.ask("GET", f"/api/models/{repo}/tree/main?recursive=false").json
    assert [(item["type"], item["path"]) for item in top] == [
        ("file", "README.md"),
        ("file", "adapter.safetensors"),
        ("file", "adapter_config.json"),
        ("directory", "docs"),
        ("file", "head_config.json"),
        ("file", "model_head.safetensors"),
    ]
    for spelling in ("true", "True", "1"):
        everything = server.ask("GET", f"/api/models/{repo}/tree/main?recursive={spelling}").json
        assert "docs/note.md" in [item["path"] for item in everything]
    (note,) = server.ask("GET", f"/api/models/{repo}/tree/main/docs?expand=true").json
    assert note["path"] == "docs/note.md"
    assert note["lastCommit"]["title"] == "a commit"
    assert set(note["securityFileStatus"]) == {"status", "avScan", "pickleImportScan"}
    page = server.ask("GET", f"/api/models/{repo}/tree/main?recursive=1&limit=3")
    rest = follow(server, page.headers["link"])
    assert [i["path"] for i in page.json + rest] == [i["path"] for i in everything]


def follow(server: Hub, link: str) -> list[dict[str, str]]:
    """Return all items of the pages after this one."""
    items = []
    while link:
        found = re.fullmatch(r'<(http[^>]+)>; rel="next"', link)
        assert found
        assert found[1].startswith(server.url)
        parts = urlsplit(found[1])
        answer = server.ask("GET", f"{parts.path}?{parts.query}")
        items += answer.json
        link = answer.headers.get("link", "")
    return items


def test_paths_info(server: Hub, repo: str) -> None:
    form = "paths=README.md&paths=docs&paths=nope&paths=docs%2Fnote.md&expand=False"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = server.ask(
        "POST", f"/api/models/{repo}/paths-info/main", form.encode(), headers=headers
    )
    assert [(item["type"], item["path"]) for item in answer.json] == [
        ("file", "README.md"),
        ("directory", "docs"),
        ("file", "docs/note.md"),
    ]


def test_preupload_says_how_and_what_is_there(server: Hub, repo: str) -> None:
    files = adapter_files(head=True)
    wanted = [
        {"path": "adapter.safetensors", "size": len(files["adapter.safetensors"]), "sample": ""},
        {
            "path": "big.safetensors",
            "size": 65 * 1024,
            "sample": base64.b64encode(b"\0" * 512).decode(),
        },
        {"path": "new.md", "size": 3, "sample": base64.b64encode(b"abc").decode()},
    ]
    answer = server.ask("POST", f"/api/models/{repo}/preupload/main", {"files": wanted}).json
    # By git's hash, as the client compares with that for files that come with the commit.
    known = git_oid(files["adapter.safetensors"])
    assert answer["files"] == [
        {
            "path": "adapter.safetensors",
            "uploadMode": "regular",
            "shouldIgnore": False,
            "oid": known,
        },
        {"path": "big.safetensors", "uploadMode": "lfs", "shouldIgnore": False},
        {"path": "new.md", "uploadMode": "regular", "shouldIgnore": False},
    ]


def test_revisions_with_slashes_and_tags(server: Hub) -> None:
    repo = server.new_name()
    first = server.published(repo)
    branch = quote("exp/a", safe="")
    assert server.ask("POST", f"/api/models/{repo}/branch/{branch}", {}).status == 201
    assert server.ask("POST", f"/api/models/{repo}/branch/{branch}", {}).status == 409
    assert (
        server.ask("POST", f"/api/models/{repo}/tag/main", {"tag": "v1.0", "message": "m"}).status
        == 201
    )
    second = server.commit(repo, {"README.md": b"# on the branch\n"}, branch="exp/a").json[
        "commitOid"
    ]
    assert (
        server.ask("GET", f"/{repo}/resolve/{branch}/README.md", token=None).body
        == b"# on the branch\n"
    )
    assert server.ask("GET", f"/{repo}/resolve/refs%2Fheads%2Fexp%2Fa/README.md").status == 200
    assert server.ask("GET", f"/{repo}/resolve/main/README.md").status == 404
    assert server.ask("GET", f"/{repo}/resolve/{second[:8]}/README.md").status == 200
    refs = server.ask("GET", f"/api/models/{repo}/refs", token=None).json
    assert {item["name"]: item["targetCommit"] for item in refs["branches"]} == {
        "exp/a": second,
        "main": first,
    }
    assert refs["tags"] == [{"name": "v1.0", "ref": "refs/tags/v1.0", "targetCommit": first}]
    assert refs["converts"] == []
    log = server.ask("GET", f"/api/models/{repo}/commits/{branch}?limit=1")
    log_ids = [item["id"] for item in log.json + follow(server, log.headers["link"])]
    assert log_ids[:2] == [second, first]
    assert len(log_ids) == 3
    assert server.commit(repo, {"x.md": b"x"}, branch="v1.0").status == 400
    assert (
        server.commit(repo, {"x.md": b"x"}, branch="nope").headers["x-error-code"]
        == "RevisionNotFound"
    )
    assert server.ask("DELETE", f"/api/models/{repo}/tag/v1.0").status == 200
    assert server.ask("DELETE", f"/api/models/{repo}/branch/{branch}").status == 200
    assert server.ask("DELETE", f"/api/models/{repo}/branch/main").status == 403
    for bad in ("a b", "..", "x.lock", "-x", "a//b", "refs/heads/x", "x~1"):
        answer = server.ask("POST", f"/api/models/{repo}/branch/{quote(bad, safe='')}", {})
        assert answer.status in (400, 404), bad
    # The commit of the deleted branch stays reachable by its id, as somebody may have noted it.
    assert server.ask("GET", f"/{repo}/resolve/{second}/README.md").status == 200


def test_commit_deletes_and_replaces(server: Hub) -> None:
    repo = server.new_name()
    server.published(repo, {**adapter_files(), "a/b.md": b"1", "a/c.md": b"2", "d.md": b"3"})
    extra = [
        {"key": "deletedFolder", "value": {"path": "a/"}},
        {"key": "deletedFile", "value": {"path": "d.md"}},
    ]
    made = server.commit(repo, {"e.md": b"4"}, extra=extra)
    assert made.json["commitUrl"] == f"{server.url}/{repo}/commit/{made.json['commitOid']}"
    files = [
        item["path"] for item in server.ask("GET", f"/api/models/{repo}/tree/main?recursive=1").json
    ]
    assert files == ["adapter.safetensors", "adapter_config.json", "e.md"]
    gone = server.commit(repo, {}, extra=extra[1:])
    assert gone.headers["x-error-code"] == "EntryNotFound"
    assert "A file with this name doesn't exist" in gone.headers["x-error-message"]
    same = server.commit(repo, {"e.md": b"4"})
    assert same.json["commitOid"] == made.json["commitOid"]


def test_stale_parent(server: Hub) -> None:
    repo = server.new_name()
    first = server.published(repo)
    second = server.commit(repo, {"README.md": b"# 2\n"}, parent=first).json["commitOid"]
    stale = server.commit(repo, {"README.md": b"# 3\n"}, parent=first)
    assert stale.status == 412
    assert second in stale.headers["x-error-message"]
    assert server.ask("GET", f"/{repo}/resolve/main/README.md").body == b"# 2\n"


def test_lfs_upload(server: Hub) -> None:
    repo = server.new_name()
    server.published(repo)
    data = adapter_files(weights=tuple(float(i) for i in range(1000)))["adapter.safetensors"]
    oid = hashlib.sha256(data).hexdigest()
    batch = {
        "operation": "upload",
        "transfers": ["basic"],
        "objects": [{"oid": oid, "size": len(data)}],
    }
    path = f"/{repo}.git/info/lfs/objects/batch"
    (item,) = server.ask("POST", path, batch).json["objects"]
    upload, verify = (urlsplit(item["actions"][kind]["href"]) for kind in ("upload", "verify"))
    link = [
        {"key": "lfsFile", "value": {"path": "adapter.safetensors", "algo": "sha256", "oid": oid}}
    ]
    assert server.commit(repo, {}, extra=link).status == 422  # not sent yet
    assert server.ask("POST", verify.path, {"oid": oid, "size": len(data)}).status == 404
    wrong = server.ask("PUT", f"{upload.path}?{upload.query}", data[:-1] + b"x", token=None)
    assert wrong.status == 422
    forged = upload.query.replace(oid, "0" * 64)
    assert server.ask("PUT", f"{upload.path}?{forged}", data, token=None).status == 403
    assert server.ask("PUT", upload.path, data, token=None).status == 403
    assert server.ask("PUT", f"{upload.path}?{upload.query}", data + b"x", token=None).status == 413
    assert server.ask("PUT", f"{upload.path}?{upload.query}", data, token=None).status == 200
    assert server.ask("POST", verify.path, {"oid": oid, "size": len(data)}).status == 200
    assert "actions" not in server.ask("POST", path, batch).json["objects"][0]
    made = server.commit(repo, {}, extra=link)
    assert made.json["status"] == "verified"
    assert server.ask("GET", f"/{repo}/resolve/main/adapter.safetensors", token=None).body == data
    # A copy within the repository names the hash again, without a size.
    link[0]["value"]["path"] = "copy/adapter.safetensors"
    assert server.commit(repo, {}, extra=link).status == 200


def test_hash_of_a_strangers_file_is_worth_nothing(server: Hub) -> None:
    stranger = server.user("lfs-stranger")
    secret = server.new_name()
    server.published(secret, adapter_files(weights=(0.123,)), private=True)
    data = adapter_files(weights=(0.123,))["adapter.safetensors"]
    oid = hashlib.sha256(data).hexdigest()
    mine = server.new_name("lfs-stranger")
    server.create(mine, token=stranger)
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    answer = server.ask("POST", f"/{mine}.git/info/lfs/objects/batch", batch, token=stranger)
    assert "upload" in answer.json["objects"][0]["actions"]
    link = [{"key": "lfsFile", "value": {"path": "x.safetensors", "algo": "sha256", "oid": oid}}]
    assert server.commit(mine, {}, extra=link, token=stranger).status == 422


def test_lists(server: Hub) -> None:
    token = server.user("lister")
    names = []
    for number in range(5):
        name = server.new_name("lister")
        card = f"---\ntags: [lists-a, lists-{number % 2}]\nlicense: mit\n---\n".encode()
        server.published(
            name, {**adapter_files(weights=(float(number),)), "README.md": card}, token=token
        )
        names.append(name)
    newest_first = names[::-1]

    def ids(query: str) -> list[str]:
        return [item["id"] for item in server.ask("GET", f"/api/models?{query}", token=None).json]

    assert ids("filter=lists-a") == newest_first
    assert ids("filter=lists-a&filter=lists-1") == [names[3], names[1]]
    assert ids("filter=lists-a,lists-1") == [names[3], names[1]]
    assert ids("author=Lister&filter=adapters") == newest_first
    assert ids(f"search={names[2].split('/')[1].upper()}") == [names[2]]
    assert ids("search=lister+lists-1") == [names[3], names[1]]
    assert ids("search=lister+%25") == []
    for sort in ("downloads", "likes", "lastModified", "createdAt", "trendingScore"):
        assert ids(f"author=lister&sort={sort}") == newest_first
        first = server.ask("GET", f"/api/models?author=lister&sort={sort}&limit=2", token=None)
        rest = follow(server, first.headers["link"])
        assert [item["id"] for item in first.json + rest] == newest_first
    full = server.ask("GET", "/api/models?author=lister&full=True&config=True", token=None).json[0]
    assert full["config"]["adapters"]["model_name"] == "bert-base-uncased"
    assert next(item["rfilename"] for item in full["siblings"]) == "README.md"
    assert full["cardData"]["license"] == "mit"
    assert server.ask("GET", "/api/models?cursor=zzz").status == 400
    assert server.ask("GET", "/api/models?sort=size").status == 400
    assert server.ask("GET", "/api/models?limit=x").status == 400


def test_rename_keeps_the_old_name_working(server: Hub) -> None:
    old, new = server.new_name(), server.new_name()
    server.published(old)
    body = {"fromRepo": old, "toRepo": new, "type": "model"}
    assert server.ask("POST", "/api/repos/move", body).status == 200
    assert server.ask("GET", f"/api/models/{old}").json["id"] == new
    assert server.ask("GET", f"/api/models/{new}").json["id"] == new
    server.published(old)  # the name is free again for its owner
    assert server.ask("GET", f"/api/models/{old}").json["id"] == old
    assert server.ask("POST", "/api/repos/move", body).status == 409


def test_delete(server: Hub) -> None:
    name = server.new_name()
    server.published(name)
    body = {"name": name.split("/")[1], "organization": "admin", "type": None}
    assert server.ask("DELETE", "/api/repos/delete", body, token=None).status == 401
    assert server.ask("DELETE", "/api/repos/delete", body).status == 200
    gone = server.ask("DELETE", "/api/repos/delete", body)
    assert (gone.status, gone.headers["x-error-code"]) == (404, "RepoNotFound")
    assert server.ask("GET", f"/{name}/resolve/main/adapter_config.json").status == 404
    server.published(name)


def test_validate_yaml(server: Hub) -> None:
    good = server.ask(
        "POST", "/api/validate-yaml", {"content": "---\nlicense: mit\n---\n", "repoType": "model"}
    )
    assert (good.status, good.json) == (200, {"errors": [], "warnings": []})
    odd = server.ask("POST", "/api/validate-yaml", {"content": "---\nlicense: my own\n---\n"})
    assert odd.status == 200
    assert "SPDX" in odd.json["warnings"][0]["message"]
    for bad in (
        "---\na: [1\n---\n",
        "---\na: &x 1\nb: *x\n---\n",
        "---\na: !!python/name:os.system 1\n---\n",
    ):
        answer = server.ask("POST", "/api/validate-yaml", {"content": bad})
        assert answer.status == 400
        assert answer.json["errors"]


def test_downloads_are_counted(server: Hub) -> None:
    import time

    name = server.new_name()
    server.published(name)
    for _ in range(3):
        server.ask("GET", f"/{name}/resolve/main/adapter_config.json", token=None)
        server.ask("HEAD", f"/{name}/resolve/main/adapter_config.json", token=None)
        server.ask("GET", f"/{name}/resolve/main/adapter.safetensors", token=None)
    deadline = time.monotonic() + 60
    while server.ask("GET", f"/api/models/{name}").json["downloads"] != 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_unknown_addresses_and_methods(server: Hub) -> None:
    assert server.ask("GET", "/api/nothing/here").status == 404
    wrong = server.ask("PUT", "/api/models")
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert server.ask("GET", "/admin/x/resolve/main/%ff").status == 400
    assert server.ask("GET", "/admin/x/resolve/main/a%00b").status == 400
    assert server.ask("POST", "/api/repos/create", b"{").status == 400
    assert server.ask("POST", "/api/repos/create", b"[" * 100_000).status == 400
    assert server.ask("POST", "/api/repos/create", b"[]").status == 400
    assert server.ask("POST", "/api/repos/create", b" " * (9 << 20)).status == 413
    assert server.ask("GET", "/api/models", headers={"Host": "evil.example/x?"}).status in (
        200,
        400,
    )


def test_operations(server: Hub) -> None:
    assert server.seconds < 3
    assert server.ask("GET", "/healthz", token=None).json["status"] == "alive"
    assert server.ask("GET", "/readyz", token=None).json == {"status": "ready"}
    server.ask("GET", "/api/models", token=None)
    numbers = server.ask("GET", "/metrics", token=None).body.decode()
    found = re.search(
        r'http_requests_total{method="GET",route="/api/models",status="200"} (\d+)', numbers
    )
    assert found
    assert int(found[1]) >= 1
    assert "hf upload" in server.ask("GET", "/", token=None).body.decode()
    log = server.log.read_text()
    assert '"path": "/api/models"' in log
    assert server.token not in log
    assert "signature" not in log
