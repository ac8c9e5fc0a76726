"""What strangers send: each is refused with the right status, and nothing of it is stored or shown."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from adapterhub.hub.verify.convert import target_of
from tests.hub.conftest import floats, safetensors_bytes
from tests.hub.server.conftest import Answer, Hub, adapter_files


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("1/0",))


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../evil", "x")
    return file.getvalue()


def _raw_safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _config(**changes: Any) -> bytes:
    info = json.loads(adapter_files()["adapter_config.json"])
    return json.dumps({**info, **changes}).encode()


_PEFT = {
    "peft_type": "LORA",
    "base_model_name_or_path": "bert-base-uncased",
    "r": 4,
    "lora_alpha": 8,
}
_GOOD_ENTRY = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'

#: Name of the file, its content, and a word of the reason.
BAD_CONTENTS: dict[str, tuple[str, bytes, str]] = {
    "pickle bomb": ("weights.bin", pickle.dumps(_Bomb()), "pickle"),
    "pickle bomb as weights": ("pytorch_adapter.bin", pickle.dumps(_Bomb()), "pickle"),
    "pickle of something else": ("adapter_model.bin", pickle.dumps({"a": 1}), "pickle"),
    "zip called weights": ("pytorch_model_head.bin", _zip(), "pickle"),
    "pickle called json": ("a.json", pickle.dumps(_Bomb()), "pickle"),
    "pickle called safetensors": ("x.safetensors", pickle.dumps([1, 2]), "pickle"),
    "pickle in text": ("notes.txt", b"cos\nsystem\n(S'true'\ntR.", "pickle"),
    "zip slip": ("a.zip", _zip(), "zip"),
    "torch zip called safetensors": ("adapter.safetensors", _zip(), "zip"),
    "7z": ("a.bin", b"7z\xbc\xaf\x27\x1c" + bytes(40), "7z"),
    "gzip": ("a.json", b"\x1f\x8b\x08" + bytes(20), "gzip"),
    "tar": ("a.txt", bytes(257) + b"ustar" + bytes(250), "tar"),
    "program": ("a.txt", b"\x7fELF" + bytes(60), "program"),
    "script": ("a.md", b"#!/bin/sh\ntrue\n", "script"),
    "python": ("modeling_x.py", b"import os\n", "refused"),
    "html": ("index.html", b"<script>alert(1)</script>", "refused"),
    "svg": ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "refused"),
    "unknown binary": ("a.dat", bytes(range(128, 256)), "unknown"),
    "control characters": ("a.txt", b"a\x1b[2Jb", "control"),
    "empty file": ("a.safetensors", b"", "empty"),
    "cut png": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG"),
    "header longer than the file": ("a.safetensors", struct.pack("<Q", 10**6) + b"{}", "cut off"),
    "header not JSON": ("a.safetensors", _raw_safetensors(b"{nope}"), "JSON"),
    "header key twice": (
        "a.safetensors",
        _raw_safetensors(f"{{{_GOOD_ENTRY},{_GOOD_ENTRY}}}".encode(), bytes(4)),
        "twice",
    ),
    "shape lies": (
        "a.safetensors",
        _raw_safetensors(b'{"a":{"dtype":"F32","shape":[99999],"data_offsets":[0,4]}}', bytes(4)),
        "bytes",
    ),
    "offsets overlap": (
        "a.safetensors",
        _raw_safetensors(
            f"{{{_GOOD_ENTRY},{_GOOD_ENTRY.replace('a', 'b', 1)}}}".encode(), bytes(4)
        ),
        "overlaps",
    ),
    "hidden tail": (
        "a.safetensors",
        _raw_safetensors(f"{{{_GOOD_ENTRY}}}".encode(), bytes(99)),
        "account",
    ),
    "unknown type": (
        "a.safetensors",
        _raw_safetensors(b'{"a":{"dtype":"EVIL","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        "type",
    ),
    "negative offsets": (
        "a.safetensors",
        _raw_safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', bytes(4)),
        "offsets",
    ),
    "NaN": (
        "adapter.safetensors",
        safetensors_bytes({"w": ("F32", [1], floats(float("nan")))}),
        "NaN",
    ),
    "infinity": (
        "adapter.safetensors",
        safetensors_bytes({"w": ("F32", [1], floats(float("inf")))}),
        "NaN",
    ),
    "JSON too deep": ("a.json", b"[" * 50_000 + b"]" * 50_000, "nested"),
    "JSON key twice": ("a.json", b'{"a":1,"a":2}', "twice"),
    "JSON with NaN": ("a.json", b'{"a":NaN}', "JSON"),
    "configuration too large": ("adapter_config.json", _config(pad="x" * 1_100_000), "MiB"),
    "configuration not an object": ("adapter_config.json", b"[]", "object"),
    "local base model": (
        "adapter_config.json",
        _config(model_name="/home/me/model"),
        "public model id",
    ),
    "absurd reduction": (
        "adapter_config.json",
        _config(config={"reduction_factor": -3}),
        "expected",
    ),
    "own code": (
        "adapter_config.json",
        json.dumps(
            {**_PEFT, "auto_mapping": {"base_model_class": "X", "parent_library": "evil"}}
        ).encode(),
        "auto_mapping",
    ),
    "PEFT rank": ("adapter_config.json", json.dumps({**_PEFT, "r": 10**9}).encode(), "expected"),
    "PEFT local base": (
        "adapter_config.json",
        json.dumps({**_PEFT, "base_model_name_or_path": "../x"}).encode(),
        "public model id",
    ),
    "YAML bomb": ("README.md", b"---\na: &a [x, x]\nb: [*a, *a]\n---\n", "aliases"),
    "YAML tag": ("README.md", b"---\na: !!python/object/apply:os.system [x]\n---\n", "tags"),
    "YAML broken": ("README.md", b"---\na: [\n---\n", "YAML"),
    "YAML tags as a mapping": ("README.md", b"---\ntags: {a: {b: c}}\n---\n", "tags"),
    "YAML file bomb": ("x.yaml", b"a: &a [x]\nb: *a\n", "aliases"),
}

BAD_PATHS = [
    "../evil.md",
    "a/../../evil.md",
    "/etc/passwd.md",
    "a//b.md",
    "./a.md",
    ".git/config.md",
    "a/.GIT/hooks.md",
    "a\\b.md",
    "C:evil.md",
    "con.md",
    "nul",
    "a.md.",
    "a ",
    "a\nb.md",
    "a\u202e\x01.md",
    "x" * 256 + ".md",
    "/".join("abcdefghi") + "/x.md",
    "",
]


@pytest.fixture(scope="module")
def repo(shared_hub: Hub) -> str:
    name = shared_hub.new_name()
    shared_hub.published(name)
    return name


@pytest.fixture
def unchanged(server: Hub, repo: str) -> Any:
    """Assert that the test leaves the repository, the contents and the staging folder as they were."""
    before = _everything(server, repo)
    yield
    assert _everything(server, repo) == before


def _everything(server: Hub, repo: str) -> tuple[Any, ...]:
    info = server.ask("GET", f"/api/models/{repo}").json
    files = [item["rfilename"] for item in info["siblings"]]
    stored = sorted(path.name for path in (server.data / "blobs").rglob("*") if path.is_file())
    return info["sha"], files, stored, list((server.data / "staging").iterdir())


@pytest.mark.parametrize("case", BAD_CONTENTS)
@pytest.mark.usefixtures("unchanged")
def test_bad_content(server: Hub, repo: str, case: str) -> None:
    name, data, reason = BAD_CONTENTS[case]
    answer = server.commit(repo, {"good.md": b"good", name: data})
    assert answer.status == 422, answer
    assert reason in answer.json["error"]
    assert "Traceback" not in answer.body.decode()


@pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
@pytest.mark.usefixtures("unchanged")
def test_bad_path(server: Hub, repo: str, path: str) -> None:
    assert server.commit(repo, {path: b"text\n"}).status in (400, 422)


@pytest.mark.parametrize(
    "paths",
    [
        ("a.md", "A.md"),
        ("caf\u00e9.md", "cafe\u0301.md"),
        ("x/a.md", "X/b.md"),
        ("f.md", "f.md/g.md"),
    ],
    ids=ascii,
)
@pytest.mark.usefixtures("unchanged")
def test_paths_that_collide_elsewhere(server: Hub, repo: str, paths: tuple[str, str]) -> None:
    assert server.commit(repo, dict.fromkeys(paths, b"text\n")).status == 422


def _line(key: str, **value: Any) -> bytes:
    return json.dumps({"key": key, "value": value}).encode() + b"\n"


_HEAD = _line("header", summary="s", description="")
_B64 = base64.b64encode(b"text\n").decode()

BAD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"{]\n",
    "no header": _line("file", path="a.md", content=_B64, encoding="base64"),
    "header without a title": _line("header", description="x"),
    "key is missing": _HEAD + b'{"value":{}}\n',
    "value is a list": _HEAD + b'{"key":"file","value":[]}\n',
    "unknown key": _HEAD + _line("symlink", path="a", target="/etc/passwd"),
    "no path": _HEAD + _line("file", content=_B64, encoding="base64"),
    "path is a number": _HEAD + _line("file", path=3, content=_B64),
    "path with NUL": _HEAD + _line("file", path="a\0.md", content=_B64),
    "content is missing": _HEAD + _line("file", path="a.md", encoding="base64"),
    "content is a number": _HEAD + _line("file", path="a.md", content=3),
    "content is not base64": _HEAD + _line("file", path="a.md", content="%%%%"),
    "content goes on after padding": _HEAD + _line("file", path="a.md", content=_B64 + _B64),
    "content is cut": _HEAD + b'{"key":"file","value":{"path":"a.md","content":"QUJD',
    "other encoding": _HEAD + _line("file", path="a.md", content=_B64, encoding="hex"),
    "same path twice": _HEAD + 2 * _line("file", path="a.md", content=_B64),
    "LFS with another hash": _HEAD
    + _line("lfsFile", path="a.safetensors", algo="md5", oid="0" * 64),
    "LFS with a path as hash": _HEAD
    + _line("lfsFile", path="a.safetensors", algo="sha256", oid="../" * 21 + "x"),
    "deep line": _HEAD + b'{"key":"file","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
}


@pytest.mark.parametrize("case", BAD_BODIES)
@pytest.mark.usefixtures("unchanged")
def test_bad_commit(server: Hub, repo: str, case: str) -> None:
    answer = server.ask("POST", f"/api/models/{repo}/commit/main", BAD_BODIES[case])
    assert answer.status == 400, answer
    assert answer.headers["x-error-message"]


@pytest.mark.usefixtures("unchanged")
def test_too_much(server: Hub, repo: str) -> None:
    long_line = _HEAD + _line("deletedFile", path="x" * 300_000)
    assert server.ask("POST", f"/api/models/{repo}/commit/main", long_line).status == 413
    many_lines = _HEAD + _line("deletedFile", path="x") * 2100
    assert server.ask("POST", f"/api/models/{repo}/commit/main", many_lines).status == 413
    many_files = {f"n/{number}.md": b"x\n" for number in range(201)}
    assert server.commit(repo, many_files).status == 413
    assert (
        server.ask("POST", f"/api/models/{repo}/preupload/main", {"files": [{}] * 257}).status
        == 400
    )


def test_file_and_commit_limits(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(ADAPTERHUB_MAX_FILE="20k", ADAPTERHUB_MAX_COMMIT="30k")
    hub.published("admin/x")
    assert hub.commit("admin/x", {"a.md": b"x" * 21_000}).status == 413
    assert hub.commit("admin/x", {"a.md": b"x" * 19_000, "b.md": b"x" * 19_000}).status == 413
    described = {"path": "a.safetensors", "size": 21_000, "sample": ""}
    assert (
        hub.ask("POST", "/api/models/admin/x/preupload/main", {"files": [described]}).status == 413
    )
    batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 21_000}]}
    (item,) = hub.ask("POST", "/admin/x.git/info/lfs/objects/batch", batch).json["objects"]
    assert item["error"]["code"] == 413
    assert list((hub.data / "staging").iterdir()) == []


def test_refused_before_it_is_sent(server: Hub, repo: str) -> None:
    """The first bytes and the name are enough to refuse what would be a long upload."""
    for name, data, _ in BAD_CONTENTS.values():
        if name.endswith(".bin") and not target_of(name):
            sample = base64.b64encode(data[:512]).decode()
            body = {"files": [{"path": name, "size": 10**6, "sample": sample}]}
            assert server.ask("POST", f"/api/models/{repo}/preupload/main", body).status == 422, (
                name
            )
    body = {"files": [{"path": "../x.md", "size": 1, "sample": "eA=="}]}
    assert server.ask("POST", f"/api/models/{repo}/preupload/main", body).status == 422


def test_large_text_is_not_refused_by_its_beginning(server: Hub, repo: str) -> None:
    words = "größer ".encode() * 3000
    body = {
        "files": [
            {"path": "x.md", "size": len(words), "sample": base64.b64encode(words[:512]).decode()}
        ]
    }
    assert server.ask("POST", f"/api/models/{repo}/preupload/main", body).status == 200
    weights = adapter_files(weights=(1.0,) * 5000)["adapter.safetensors"]
    sample = base64.b64encode(weights[:512]).decode()
    body = {"files": [{"path": "a.safetensors", "size": len(weights), "sample": sample}]}
    assert server.ask("POST", f"/api/models/{repo}/preupload/main", body).status == 200


def test_guessing_tokens(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    hub.ask("GET", "/api/whoami-v2")
    statuses = [
        hub.ask("GET", "/api/whoami-v2", token=f"ahub_{number}").status for number in range(25)
    ]
    assert statuses == [401] * 20 + [429] * 5
    refused = hub.ask("GET", "/api/models", token="ahub_x")
    assert refused.status == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    # Who has been known before, and who sends no token, is not disturbed.
    assert hub.ask("GET", "/api/whoami-v2").status == 200
    assert hub.ask("GET", "/api/models", token=None).status == 200


def test_odd_authorization_headers(server: Hub) -> None:
    for header in ("Basic !!!", "Digest x", "Bearer", "Bearer \xff", "Negotiate"):
        answer = server.ask("GET", "/api/models", token=None, headers={"Authorization": header})
        assert answer.status in (200, 401), header
    basic = base64.b64encode(f"admin:{server.token}".encode()).decode()
    answer = server.ask(
        "GET", "/api/whoami-v2", token=None, headers={"Authorization": f"Basic {basic}"}
    )
    assert answer.json["name"] == "admin"


def test_private_repositories_cannot_be_told_from_missing_ones(server: Hub) -> None:
    stranger = server.user("prober")
    hidden, missing = server.new_name(), server.new_name()
    server.published(hidden, {**adapter_files(), "README.md": b"# secret\n"}, private=True)
    paths = [
        "/api/models/{}",
        "/api/models/{}/revision/main",
        "/api/models/{}/tree/main",
        "/api/models/{}/refs",
        "/api/models/{}/commits/main",
        "/api/models/{}/auth-check",
        "/api/hub/v1/repos/{}/checks",
        "/{}/resolve/main/README.md",
        "/{}/raw/main/README.md",
    ]
    posts = [
        "/api/models/{}/paths-info/main",
        "/api/models/{}/preupload/main",
        "/api/models/{}/commit/main",
        "/api/models/{}/branch/x",
        "/{}.git/info/lfs/objects/batch",
        "/{}.git/info/lfs/verify",
        "/{}/ask-access",
    ]
    body = {"files": [], "objects": [], "operation": "upload", "oid": "0" * 64, "size": 1}

    def look(token: str | None, path: str, name: str) -> tuple[int, str, str]:
        method = "POST" if path in posts else "GET"
        answer: Answer = server.ask(
            method, path.format(name), body if path in posts else None, token=token
        )
        return (
            answer.status,
            answer.headers.get("x-error-code", ""),
            answer.body.decode().replace(name, "NAME"),
        )

    for token in (None, stranger):
        for path in [*paths, *posts]:
            assert look(token, path, hidden) == look(token, path, missing), path
            assert look(token, path, hidden)[:2] == (404, "RepoNotFound"), path
        assert hidden not in server.ask("GET", "/api/models", token=token).body.decode()
        delete = {"name": hidden.split("/")[1], "organization": "admin"}
        assert server.ask("DELETE", "/api/repos/delete", delete, token=stranger).status == 404
    move = {"fromRepo": hidden, "toRepo": "prober/mine"}
    assert server.ask("POST", "/api/repos/move", move, token=stranger).status == 404
    assert server.ask("GET", f"/{hidden}/resolve/main/README.md").body == b"# secret\n"


def test_nothing_uploaded_runs_in_a_browser(server: Hub) -> None:
    repo = server.new_name()
    evil = b"<script>alert(1)</script>"
    card = b'---\ntags: ["<img src=x onerror=alert(1)>"]\nlicense: "<script>"\n---\n' + evil
    server.published(repo, {**adapter_files(), "README.md": card, "a.txt": evil})
    for name in ("README.md", "a.txt", "adapter_config.json"):
        answer = server.ask("GET", f"/{repo}/resolve/main/{name}", token=None)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert "sandbox" in answer.headers["content-security-policy"]
    listed = server.ask("GET", f"/api/models/{repo}", token=None)
    assert listed.headers["content-type"] == "application/json"


def test_header_injection(server: Hub, repo: str) -> None:
    evil = quote("x\r\nSet-Cookie: a=b", safe="")
    answer = server.ask("GET", f"/{repo}/resolve/main/{evil}")
    assert answer.status == 404
    assert "set-cookie" not in answer.headers


def test_staging_is_outside_of_what_is_served(server: Hub) -> None:
    for path in ("/staging/", "/hub.db", "/blobs/", "/../hub.db", "/%2e%2e/hub.db", "//etc/passwd"):
        assert server.ask("GET", path).status in (400, 404)
    assert Path(server.data, "hub.db").exists()
