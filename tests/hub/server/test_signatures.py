"""Signed adapters, verified by hub and client; pushes that go on where they stopped; several hubs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.errors import HubError
from adapterhub.hub import pushing
from adapterhub.hub.client import prepare
from adapterhub.hub.fetching import Damaged, fetch
from adapterhub.hub.resolve import Ambiguous
from adapterhub.hub.sending import Outgoing, Sender, Sent
from adapterhub.hub.signing import ADAPTER, SIGNATURE_FILE, SignatureError, SigningKey, now, sign
from adapterhub.hub.sources import folder_for, places
from adapterhub.hub.trust import TrustedKeys
from tests.hub.conftest import LORA, SEQ_BN, make_adapter, safetensors_bytes
from tests.hub.server.conftest import Hub


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # read at its import
    for name in ("HUB", "KEY", "TRUSTED_KEYS", "REQUIRE_SIGNATURE"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate("ada")


def push(server: Hub, folder: Path, repo: str, **options: Any) -> Sent:
    names = ("task", "license", "language", "description")
    texts = {name: options.pop(name) for name in names if name in options}
    prepared = prepare(folder, **texts)
    return pushing.publish(prepared, repo, url=server.url, token=server.token, **options)


def register(server: Hub, key: SigningKey, **body: Any) -> Any:
    return server.ask("POST", "/api/hub/v1/keys", {"key": str(key.public), **body})


def verdict(server: Hub, repo: str) -> tuple[str, str, str]:
    """Return the status of the tip, and the outcome and message of the check of its signature."""
    answer = server.ask("GET", f"/api/hub/v1/repos/{repo}/checks").json
    for row in answer["checks"]:
        if row["check"] == "signature":
            return answer["status"], row["outcome"], row["message"]
    return answer["status"], "", ""


def test_keys_of_a_profile(server: Hub, key: SigningKey) -> None:
    token = server.user("keyed", "write")
    place = "/api/hub/v1/users/keyed/keys"
    body = {"key": str(key.public), "name": "laptop", "expires": "2050-01-01T00:00:00Z"}
    made = server.ask("POST", "/api/hub/v1/keys", body, token=token)
    assert made.status == 201
    assert server.ask("GET", place, token=None).json == [made.json]
    assert made.json["id"] == key.public.id
    assert made.json["expires"] == "2050-01-01T00:00:00Z"
    assert server.ask("POST", "/api/hub/v1/keys", body).status == 409  # it is somebody's
    assert server.ask("POST", "/api/hub/v1/keys", body, token=None).status == 401
    reader = server.user("keyless", "read")
    assert server.ask("POST", "/api/hub/v1/keys", body, token=reader).status == 403
    for wrong in (
        {"key": "ed25519:AAAA"},
        {"key": 3},
        {},
        {"key": str(SigningKey.generate().public), "expires": "2020-01-01T00:00:00Z"},
        {"key": str(SigningKey.generate().public), "expires": "soon"},
    ):
        assert server.ask("POST", "/api/hub/v1/keys", wrong, token=token).status == 400, wrong
    assert server.ask("DELETE", f"{place}/{key.public.id}", token=reader).status == 403
    assert server.ask("DELETE", f"{place}/nothing", token=token).status == 404
    assert server.ask("DELETE", f"{place}/{key.public.id}", token=token).json["revoked"]
    assert server.ask("POST", "/api/hub/v1/keys", body, token=token).status == 409  # for ever
    assert server.ask("GET", "/api/hub/v1/users/nobody-here/keys").status == 404


def test_signed_push_is_verified_by_hub_and_client(
    server: Hub, key: SigningKey, tmp_path: Path
) -> None:
    repo, folder = server.new_name(), make_adapter(tmp_path / "a")
    register(server, key)
    sent = push(server, folder, repo, key=key)
    assert SIGNATURE_FILE in sent.changed
    assert verdict(server, repo) == ("verified", "ok", "")
    assert push(server, folder, repo, key=key).commit == sent.commit  # nothing to sign anew
    with pytest.raises(SignatureError, match="hub key trust"):
        fetch(server.url, repo, require_signature=True)
    trusted = TrustedKeys.load()
    trusted.add(key.public, "admin")
    trusted.save()
    got = fetch(server.url, repo, require_signature=True)
    assert (got / "adapter.safetensors").read_bytes() == (
        folder / "adapter.safetensors"
    ).read_bytes()
    # A push that is not signed takes the old signature away instead of leaving a wrong one.
    (folder / "notes.txt").write_text("more\n")
    sent = push(server, folder, repo)
    assert sent.removed == (SIGNATURE_FILE,)
    assert verdict(server, repo)[0] == "verified"
    with pytest.raises(SignatureError, match="is not signed"):
        fetch(server.url, repo, require_signature=True)
    assert fetch(server.url, repo)
    # What lies there and not here would not be covered.
    (folder / "notes.txt").unlink()
    with pytest.raises(HubError, match=r"notes\.txt.*--replace"):
        push(server, folder, repo, key=key)
    push(server, folder, repo, key=key, replace=True)
    assert verdict(server, repo) == ("verified", "ok", "")
    assert fetch(server.url, repo, require_signature=True)


def test_wrong_signature_is_refused_everywhere(
    server: Hub, key: SigningKey, tmp_path: Path
) -> None:
    repo, folder = server.new_name(), make_adapter(tmp_path / "a")
    push(server, folder, repo)
    files = {name: Outgoing.of(name, data) for name, data in prepare(folder).files.items()}
    hashes = {name: item.sha256 for name, item in files.items()}
    register(server, key)
    wrong = {**hashes, "adapter.safetensors": "0" * 64}
    for said, message in (
        (sign(key, ADAPTER, repo, wrong), "changed after it was signed"),
        (sign(key, ADAPTER, "somebody/else", hashes), "was signed as 'somebody/else'"),
    ):
        made = server.commit(repo, {SIGNATURE_FILE: said.dumps()})
        assert made.json["status"] == "rejected"
        status, outcome, text = verdict(server, repo)
        assert (status, outcome) == ("rejected", "error")
        assert message in text
        with pytest.raises(SignatureError, match=message):
            fetch(server.url, repo, version=made.json["commitOid"], token=server.token)
    assert fetch(server.url, repo)  # others go on seeing the commit before


def test_keys_unknown_foreign_revoked_expired(server: Hub, key: SigningKey, tmp_path: Path) -> None:
    repo, folder = server.new_name(), make_adapter(tmp_path / "a")
    push(server, folder, repo, key=key)
    assert verdict(server, repo)[:2] == ("verified", "warning")
    assert "nobody registered here" in verdict(server, repo)[2]
    token = server.user("another-signer", "write")
    server.ask("POST", "/api/hub/v1/keys", {"key": str(key.public)}, token=token)
    (folder / "a.txt").write_text("1")
    push(server, folder, repo, key=key)
    assert verdict(server, repo)[1:] == (
        "warning",
        f"{SIGNATURE_FILE}: signed by another-signer, who is no member of admin",
    )
    server.ask("DELETE", f"/api/hub/v1/users/another-signer/keys/{key.public.id}", token=token)
    (folder / "a.txt").write_text("2")
    sent = push(server, folder, repo, key=key)
    assert sent.status == "rejected"
    assert "was revoked on" in verdict(server, repo)[2]
    short = SigningKey.generate()
    soon = (now() + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert register(server, short, expires=soon).status == 201
    while now() <= now().fromisoformat(soon.replace("Z", "+00:00")):
        pass
    assert push(server, folder, repo, key=short).status == "rejected"
    assert "expired on" in verdict(server, repo)[2]


def test_moved_repository_keeps_its_signature_under_the_old_name(
    server: Hub, key: SigningKey, tmp_path: Path
) -> None:
    repo, moved = server.new_name(), server.new_name()
    register(server, key)
    push(server, make_adapter(tmp_path / "a"), repo, key=key)
    body = {"fromRepo": repo, "toRepo": moved, "type": "model"}
    assert server.ask("POST", "/api/repos/move", body).status == 200
    card = server.ask("GET", f"/{moved}/raw/main/README.md").body
    assert server.commit(moved, {"README.md": card + b"\n"}).json["status"] == "rejected"
    assert fetch(server.url, repo)  # the old name leads there, and is what was signed
    with pytest.raises(SignatureError, match="was signed as"):
        fetch(server.url, moved)


class _Broken(Exception):
    pass


@pytest.fixture
def small_parts(new_hub: Any) -> Hub:
    return new_hub(ADAPTERHUB_PART_SIZE="64k", ADAPTERHUB_REGULAR_LIMIT="64k")


def test_push_goes_on_where_it_stopped(
    small_parts: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, folder = small_parts.new_name(), make_adapter(tmp_path / "a")
    weights = safetensors_bytes({"w": ("F32", [1 << 17], bytes(range(1, 129)) * (1 << 12))})
    (folder / "adapter.safetensors").write_bytes(weights)
    parts = -(-len(weights) // (64 << 10))
    sent: list[str] = []
    put = Sender._put

    def counted(self: Sender, item: Outgoing, address: str, begin: int, size: int) -> str:
        if len(sent) == 5:
            raise _Broken
        sent.append(f"{begin}")
        return put(self, item, address, begin, size)

    monkeypatch.setattr(Sender, "_put", counted)
    with pytest.raises(_Broken):
        push(small_parts, folder, repo)
    assert len(sent) == 5
    assert small_parts.ask("GET", f"/{repo}/resolve/main/adapter.safetensors").status == 404
    monkeypatch.setattr(Sender, "_put", put)
    began: list[int] = []

    def noted(self: Sender, item: Outgoing, address: str, begin: int, size: int) -> str:
        began.append(begin)
        return put(self, item, address, begin, size)

    monkeypatch.setattr(Sender, "_put", noted)
    told: list[tuple[str, int, int]] = []
    push(small_parts, folder, repo, progress=lambda *words: told.append(words))
    assert len(began) == parts - 5
    assert told[-1] == ("adapter.safetensors", len(weights), len(weights))
    data = small_parts.ask("GET", f"/{repo}/resolve/main/adapter.safetensors", token=None).body
    assert data == weights
    began.clear()
    (folder / "README.md").write_text("# Another card\n")
    changed = push(small_parts, folder, repo).changed
    assert changed == ("README.md",)
    assert began == []


@pytest.fixture
def several(server: Hub, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A task with three adapters: two configurations for BERT, one for RoBERTa."""
    names = {name: server.new_name() for name in ("bn", "lora", "roberta")}
    task = f"ner/{names['bn'].split('-')[1]}"
    for name, config, model in (
        ("bn", SEQ_BN, "bert-base-uncased"),
        ("lora", LORA, "bert-base-uncased"),
        ("roberta", SEQ_BN, "roberta-base"),
    ):
        folder = make_adapter(tmp_path / name, config=config, model=model)
        push(server, folder, names[name], task=task)
    return task, names


def test_configuration_decides(
    server: Hub, several: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, names = several
    monkeypatch.setenv("ADAPTERHUB_HUB", f"{server.url},hf")

    def found(**options: Any) -> str:
        return folder_for(task, **options).parents[1].name.split("--")[-1]

    bert = "bert-base-uncased"
    assert found(base_model=bert, config="lora").endswith(names["lora"].split("/")[1])
    assert found(base_model=bert, config="seq_bn") == names["bn"].split("/")[1]
    assert found(base_model=bert, config=SEQ_BN) == names["bn"].split("/")[1]
    assert found(preferred="roberta-base") == names["roberta"].split("/")[1]
    with pytest.raises(Ambiguous) as several_fit:
        folder_for(task, base_model=bert)
    for name in ("bn", "lora"):
        assert f"@{names[name]}  (bert-base-uncased, " in str(several_fit.value)
    with pytest.raises(HubError, match="with the config prefix_tuning; there is"):
        folder_for(task, base_model=bert, config="prefix_tuning")
    with pytest.raises(HubError, match=task):
        folder_for(f"{task}x", config="lora")


def test_hubs_in_order(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterhub.hub import Hub as Folder

    assert places(" a , http://b ,, hf") == ["a", "http://b", "hf"]
    hub = Folder.init(tmp_path / "hub")
    adapter = make_adapter(tmp_path / "a", weights=(1.0, 2.0))
    hub.publish(adapter, task="ner", subtask="x", owner="ada", name="one", type="text_task")
    repo = server.new_name()
    push(server, make_adapter(tmp_path / "b"), repo)
    dead = "http://127.0.0.1:9"
    monkeypatch.setenv("ADAPTERHUB_HUB", f"{tmp_path / 'hub'},{server.url},{dead}")
    assert (folder_for("@ada/one") / "adapter.safetensors").read_bytes() == (
        adapter / "adapter.safetensors"
    ).read_bytes()
    assert folder_for(repo)
    with pytest.raises(HubError) as nowhere:
        folder_for("@ada/two")
    for place in (str(tmp_path / "hub"), server.url, dead):
        assert f"{place}: " in str(nowhere.value)


def test_without_a_network(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = server.new_name()
    sent = push(server, make_adapter(tmp_path / "a"), repo)
    online = fetch(server.url, repo)
    assert fetch(server.url, repo, version=sent.commit) == online
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(server.url, repo) == online
    assert fetch(server.url, repo, version=sent.commit) == online
    for missing in (server.new_name(), f"{repo}-not"):
        with pytest.raises(HubError, match="was not fetched before"):
            fetch(server.url, missing)
    with pytest.raises(HubError, match="was not fetched before"):
        fetch("http://127.0.0.1:9", repo)  # another hub may mean another adapter by that name
    weights = (online / "adapter.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(Damaged, match="is damaged"):
        fetch(server.url, repo)


def test_checks_api_says_what_was_signed(server: Hub, key: SigningKey, tmp_path: Path) -> None:
    repo = server.new_name()
    push(server, make_adapter(tmp_path / "a"), repo, key=key)
    answer = server.ask("GET", f"/api/hub/v1/repos/{repo}/checks", token=None).json
    rows = {row["check"]: row for row in answer["checks"]}
    assert rows["signature"]["file"] == SIGNATURE_FILE
    assert rows["architecture"]["outcome"] == "skipped"  # (tests run with checks of formats only)
    content = json.loads(server.ask("GET", f"/{repo}/raw/main/{SIGNATURE_FILE}").body)
    assert content["statement"]["subject"] == repo


def test_the_page_shows_who_signed(server: Hub, tmp_path: Path) -> None:
    """On the page of an adapter and in its twin: by which key, whose it is, and if that still holds."""
    key, repo, folder = SigningKey.generate("ada"), server.new_name(), make_adapter(tmp_path / "a")

    def shown() -> tuple[Any, str]:
        page = server.ask("GET", f"/adapters/{repo}/", token=None).body.decode()
        twin = server.ask("GET", f"/adapters/{repo}/index.json", token=None).json
        return twin["detail"]["signed"], page

    push(server, folder, repo, key=key)
    signed, page = shown()
    assert (signed["outcome"], signed["key"], signed["by"]) == ("unknown", key.public.id, "")
    assert "key not known here" in page
    register(server, key)
    repo = server.new_name()
    push(server, folder, repo, key=key)
    signed, page = shown()
    assert (signed["outcome"], signed["by"], signed["message"]) == ("ok", "admin", "")
    assert signed["time"].endswith("Z")
    assert "Signed by @admin" in page
    place = f"/api/hub/v1/users/admin/keys/{key.public.id}"
    assert server.ask("DELETE", place).status == 200
    signed, page = shown()
    assert signed["outcome"] == "wrong"
    assert "was revoked" in page
    unsigned = server.new_name()
    server.published(unsigned)
    assert "Not signed." in server.ask("GET", f"/adapters/{unsigned}/", token=None).body.decode()
