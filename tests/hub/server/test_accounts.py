"""Users, organisations, roles, tokens: who may do what, and who sees what when."""

from __future__ import annotations

import sqlite3

import pytest

from tests.hub.server.conftest import Hub, adapter_files


@pytest.fixture(scope="module")
def people(shared_hub: Hub) -> dict[str, str]:
    """Four users with tokens, and an organisation where they are admin, writer, reader and nobody."""
    tokens = {name: shared_hub.user(name, scope="admin") for name in ("ada", "wim", "rosa", "nils")}
    made = shared_hub.ask("POST", "/api/hub/v1/organizations", {"name": "lab"}, token=tokens["ada"])
    assert made.status == 201
    for user, role in (("wim", "write"), ("rosa", "read")):
        path = f"/api/hub/v1/organizations/lab/members/{user}"
        assert shared_hub.ask("PUT", path, {"role": role}, token=tokens["ada"]).status == 200
    return tokens


def test_roles_in_an_organisation(server: Hub, people: dict[str, str]) -> None:
    repo = server.new_name("lab")
    body = {"name": repo.split("/")[1], "organization": "lab", "private": True}
    for user, status in (("rosa", 403), ("nils", 403), ("wim", 200)):
        assert server.ask("POST", "/api/repos/create", body, token=people[user]).status == status
    assert server.commit(repo, adapter_files(), token=people["wim"]).json["status"] == "verified"
    seen = {
        user: server.ask("GET", f"/api/models/{repo}", token=people[user]).status for user in people
    }
    assert seen == {"ada": 200, "wim": 200, "rosa": 200, "nils": 404}
    wrote = {
        user: server.commit(repo, {"x.md": user.encode()}, token=people[user]).status
        for user in people
    }
    assert wrote == {"ada": 200, "wim": 200, "rosa": 403, "nils": 404}
    settings = {
        user: server.ask(
            "PUT", f"/api/models/{repo}/settings", {"private": True}, token=token
        ).status
        for user, token in people.items()
    }
    assert settings == {"ada": 200, "wim": 403, "rosa": 403, "nils": 404}
    listed = {
        user: repo
        in [item["id"] for item in server.ask("GET", "/api/models?author=lab", token=token).json]
        for user, token in people.items()
    }
    assert listed == {"ada": True, "wim": True, "rosa": True, "nils": False}
    orgs = server.ask("GET", "/api/whoami-v2", token=people["rosa"]).json["orgs"]
    assert [(org["name"], org["roleInOrg"]) for org in orgs] == [("lab", "read")]


def test_members(server: Hub, people: dict[str, str]) -> None:
    path = "/api/hub/v1/organizations/lab/members"
    rows = server.ask("GET", path, token=people["rosa"]).json
    assert rows == [
        {"user": "ada", "role": "admin"},
        {"user": "rosa", "role": "read"},
        {"user": "wim", "role": "write"},
    ]
    assert server.ask("GET", path, token=people["nils"]).status == 404
    assert server.ask("PUT", f"{path}/nils", {"role": "read"}, token=people["wim"]).status == 403
    assert server.ask("PUT", f"{path}/nils", {"role": "boss"}, token=people["ada"]).status == 400
    assert server.ask("PUT", f"{path}/nobody", {"role": "read"}, token=people["ada"]).status == 404
    last = server.ask("PUT", f"{path}/ada", {"role": "read"}, token=people["ada"])
    assert last.status == 409
    assert server.ask("DELETE", f"{path}/ada", token=people["ada"]).status == 409
    assert server.ask("PUT", f"{path}/nils", {"role": "read"}, token=people["ada"]).status == 200
    assert server.ask("DELETE", f"{path}/nils", token=people["ada"]).status == 200
    assert len(server.ask("GET", path, token=people["ada"]).json) == 3


def test_scopes(server: Hub) -> None:
    tokens = {
        scope: server.user(f"scoped-{scope}", scope=scope) for scope in ("read", "write", "admin")
    }
    for scope, token in tokens.items():
        repo = f"scoped-{scope}/x"
        made = server.ask("POST", "/api/repos/create", {"name": "x"}, token=token)
        assert made.status == (403 if scope == "read" else 200)
        if scope == "read":
            assert "scope" in made.headers["x-error-message"]
            server.ask("POST", "/api/repos/create", {"name": "x", "organization": "scoped-read"})
        committed = server.commit(repo, adapter_files(), token=token)
        assert committed.status == (403 if scope == "read" else 200)
        listed = server.ask("GET", "/api/hub/v1/tokens", token=token)
        assert listed.status == (200 if scope == "admin" else 403)
        assert server.ask("GET", "/api/hub/v1/audit", token=token).status == 403
        assert server.ask("POST", "/api/hub/v1/users", {"name": "sneak"}, token=token).status == 403


def test_tokens_live_and_die(server: Hub) -> None:
    mine = server.user("token-owner", scope="admin")
    made = server.ask(
        "POST",
        "/api/hub/v1/tokens",
        {"name": "ci", "scope": "write", "expires_in_days": 1},
        token=mine,
    )
    secret, number = made.json["token"], made.json["id"]
    assert (
        server.ask("GET", "/api/whoami-v2", token=secret).json["auth"]["accessToken"]["displayName"]
        == "ci"
    )
    rows = server.ask("GET", "/api/hub/v1/tokens", token=mine).json
    assert [row["name"] for row in rows] == ["test", "ci"]
    assert secret not in str(rows)
    other = server.user("token-thief", scope="admin")
    assert server.ask("DELETE", f"/api/hub/v1/tokens/{number}", token=other).status == 404
    assert (
        server.ask("POST", "/api/hub/v1/tokens", {"user": "token-owner"}, token=other).status == 403
    )
    assert server.ask("DELETE", f"/api/hub/v1/tokens/{number}", token=mine).status == 200
    assert server.ask("GET", "/api/whoami-v2", token=secret).status == 401
    for bad in ({"scope": "root"}, {"expires_in_days": 0}, {"expires_in_days": "x"}):
        assert server.ask("POST", "/api/hub/v1/tokens", bad, token=mine).status == 400
    assert server.ask("POST", "/api/hub/v1/tokens", {"user": "lab-none"}).status == 404


def test_secrets_are_not_in_the_database(server: Hub) -> None:
    secret = server.user("hashed")
    data = b"".join(path.read_bytes() for path in server.data.glob("hub.db*"))
    assert secret.encode() not in data
    assert server.token.encode() not in data


def test_expired_tokens(server: Hub) -> None:
    mine = server.user("expiring")
    assert server.ask("GET", "/api/whoami-v2", token=mine).status == 200
    with sqlite3.connect(server.data / "hub.db", timeout=30) as database:
        database.execute(
            "UPDATE tokens SET expires = '2020-01-01 00:00:00.000000' WHERE account_id = "
            "(SELECT id FROM accounts WHERE name = 'expiring')"
        )
    database.close()
    assert server.ask("GET", "/api/whoami-v2", token=mine).status == 401


def test_disabled_users(server: Hub) -> None:
    mine = server.user("locked-out")
    assert server.ask("PUT", "/api/hub/v1/users/locked-out", {"disabled": True}).status == 200
    assert server.ask("GET", "/api/whoami-v2", token=mine).status == 401
    assert server.ask("PUT", "/api/hub/v1/users/locked-out", {"disabled": False}).status == 200
    assert server.ask("GET", "/api/whoami-v2", token=mine).status == 200
    assert server.ask("PUT", "/api/hub/v1/users/admin", {"disabled": True}).status == 403


@pytest.mark.parametrize(
    "name", ["api", "API", "models", "-x", "x-", "a--b", "x" * 41, "ä", "a/b", "..", ""]
)
def test_names_that_no_account_can_have(server: Hub, name: str) -> None:
    assert server.ask("POST", "/api/hub/v1/users", {"name": name}).status == 400
    assert server.ask("POST", "/api/hub/v1/users", {"name": "ADMIN"}).status == 409


def test_gated(server: Hub) -> None:
    asker, repo = server.user("asker"), server.new_name()
    server.published(repo)
    path = f"/{repo}/resolve/main/adapter.safetensors"
    for kind, state in (("manual", "pending"), ("auto", "granted")):
        assert (
            server.ask("PUT", f"/api/models/{repo}/settings", {"gated": kind}).json["gated"] == kind
        )
        for token in (None, asker):
            refused = server.ask("GET", path, token=token)
            assert (refused.status, refused.headers["x-error-code"]) == (403, "GatedRepo")
            assert server.ask("GET", f"/api/models/{repo}", token=token).json["gated"] == kind
        assert server.ask("GET", path).status == 200
        if kind == "manual":
            assert server.ask("POST", f"/{repo}/ask-access", {}, token=None).status == 401
            assert (
                server.ask("POST", f"/{repo}/ask-access", {}, token=asker).json["status"] == state
            )
            requests = server.ask("GET", f"/api/models/{repo}/user-access-request/pending").json
            assert [row["user"]["user"] for row in requests] == ["asker"]
            handle = {"user": "asker", "status": "accepted"}
            url = f"/api/models/{repo}/user-access-request/handle"
            assert server.ask("POST", url, handle, token=asker).status == 403
            assert server.ask("POST", url, handle).status == 200
            assert server.ask("GET", path, token=asker).status == 200
            assert server.ask("POST", url, {**handle, "status": "rejected"}).status == 200
            asker = server.user("asker-two")
    assert server.ask("POST", f"/{repo}/ask-access", {}, token=asker).json["status"] == "granted"
    assert server.ask("GET", path, token=asker).status == 200


def test_what_is_not_verified_is_not_seen_by_others(server: Hub) -> None:
    writer, stranger = server.user("slow-writer"), server.user("onlooker")
    repo = server.new_name("slow-writer")
    files = adapter_files()
    server.create(repo, token=writer)

    def sees(token: str | None) -> int:
        return server.ask("GET", f"/api/models/{repo}", token=token).status

    assert [sees(writer), sees(stranger), sees(None)] == [200, 404, 404]
    part = server.commit(repo, {"adapter_config.json": files["adapter_config.json"]}, token=writer)
    assert part.json["status"] == "held"
    assert "adapter.safetensors" in part.headers["x-hf-warning"]
    assert [sees(writer), sees(stranger), sees(None)] == [200, 404, 404]
    whole = server.commit(repo, {"adapter.safetensors": files["adapter.safetensors"]}, token=writer)
    assert whole.json["status"] == "verified"
    assert [sees(writer), sees(stranger), sees(None)] == [200, 200, 200]
    extra = [{"key": "deletedFile", "value": {"path": "adapter.safetensors"}}]
    broken = server.commit(repo, {}, token=writer, extra=extra)
    assert broken.json["status"] == "held"
    tips = [
        server.ask("GET", f"/api/models/{repo}", token=token).json["sha"]
        for token in (writer, stranger, None)
    ]
    assert tips == [broken.json["commitOid"], whole.json["commitOid"], whole.json["commitOid"]]
    hidden = server.ask(
        "GET", f"/{repo}/resolve/{broken.json['commitOid']}/adapter_config.json", token=stranger
    )
    assert hidden.headers["x-error-code"] == "RevisionNotFound"
    log = [
        row["id"]
        for row in server.ask("GET", f"/api/models/{repo}/commits/main", token=stranger).json
    ]
    assert log == [whole.json["commitOid"]]


def test_checks_are_shown_and_run_again(server: Hub) -> None:
    import time

    repo = server.new_name()
    oid = server.published(repo)
    shown = server.ask("GET", f"/api/hub/v1/repos/{repo}/checks", token=None).json
    assert (shown["status"], shown["commit"]) == ("verified", oid)
    names = {(row["file"], row["check"]): row["outcome"] for row in shown["checks"]}
    assert names[(None, "adapter")] == "ok"
    for check in ("integrity", "name", "content", "header", "numbers"):
        assert names[("adapter.safetensors", check)] == "ok"
    first = shown["checks"][0]["checked"]
    assert server.ask("POST", f"/api/hub/v1/repos/{repo}/checks", {}, token=None).status == 401
    # Somebody changes what is stored: the next look takes it away from others.
    blob = next(
        path
        for path in (server.data / "blobs").rglob("*")
        if path.name == shown["checks"][1]["sha256"]
    )
    good = blob.read_bytes()
    for content, status in ((good[:-1] + b"?", "rejected"), (good, "verified")):
        blob.write_bytes(content)
        assert server.ask("POST", f"/api/hub/v1/repos/{repo}/checks", {}).status == 202
        deadline = time.monotonic() + 20
        while True:
            now = server.ask("GET", f"/api/hub/v1/repos/{repo}/checks").json
            if now["status"] == status and now["checks"][0]["checked"] != first:
                break
            assert time.monotonic() < deadline, now
            time.sleep(0.1)
        assert server.ask("GET", f"/api/models/{repo}", token=None).status == (
            200 if status == "verified" else 404
        )


def test_audit_log(server: Hub) -> None:
    repo = server.new_name()
    server.published(repo)
    rows = server.ask("GET", "/api/hub/v1/audit?limit=1000").json
    mine = [(row["actor"], row["action"]) for row in rows if row["target"] == repo]
    assert mine == [("admin", "commit"), ("admin", "repo.create")]
    assert all(row["address"] == "127.0.0.1" for row in rows if row["target"] == repo)
