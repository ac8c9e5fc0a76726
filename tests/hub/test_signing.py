"""Signatures: what they cover, whose they are, and how keys are kept."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.hub.signedfolder import verify_folder
from adapterhub.hub.signing import (
    ADAPTER,
    INDEX,
    REPORT,
    SIGNATURE_FILE,
    PublicKey,
    Signature,
    SignatureError,
    SigningKey,
    Statement,
    now,
    public_of,
    sign,
    sign_document,
    verify_document,
)
from adapterhub.hub.storage import file_sha256
from adapterhub.hub.trust import TrustedKeys

FILES = {"adapter.safetensors": "a" * 64, "adapter_config.json": "b" * 64}


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("KEY", "TRUSTED_KEYS", "REQUIRE_SIGNATURE", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate("ada")


def test_there_and_back(key: SigningKey) -> None:
    signature = Signature.loads(sign(key, ADAPTER, "ada/x", FILES).dumps())
    signature.verify(kind=ADAPTER, subject="Ada/X", files=FILES)
    signature.verify(kind=ADAPTER, subject="ada/x", files=FILES, free={"README.md": "c" * 64})
    assert signature.key == key.public


def test_known_bytes_are_signed() -> None:
    """A fixed key and statement, so that other programs can be written against them."""
    key = SigningKey(bytes(range(32)))
    time = now().replace(year=2026, month=1, day=2, hour=3, minute=4, second=5)
    data = Statement(ADAPTER, "ada/x", {"b": "0" * 64, "a": "1" * 64}, time).canonical()
    assert data == (
        b'adapterhub signed statement 1\n{"expires":null,"files":{"a":"' + b"1" * 64 + b'","b":"'
        b"" + b"0" * 64 + b'"},"kind":"adapter","signed":"2026-01-02T03:04:05Z","subject":"ada/x"}'
    )
    assert str(key.public) == "ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    assert key.public.id == "56475aa75463474c0285df5dbf2bcab7"
    assert key.public.verify(key.sign(data), data)


Change = Callable[[dict], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["statement"].update(subject="eve/x"), "is wrong"),
        (lambda d: d["statement"]["files"].update({"evil.json": "c" * 64}), "is wrong"),
        (lambda d: d["statement"].update(signed="2020-01-01T00:00:00Z"), "is wrong"),
        (lambda d: d["statement"].update(extra=1), "must have kind"),
        (lambda d: d["statement"].update(signed=None), "when it was signed"),
        (lambda d: d["statement"].update(signed="yesterday"), "not a time"),
        (lambda d: d["statement"].update(files={"a": "x"}), "SHA-256 of each file"),
        (lambda d: d["statement"].update(kind=3), "must be text"),
        (lambda d: d.update(signature="AAAA"), "is wrong"),
        (lambda d: d.update(signature="no base64!"), "not base64"),
        (lambda d: d.update(key=str(SigningKey(bytes(32)).public)), "is wrong"),
        (lambda d: d.update(key="ed25519:AAAA"), "not a public key"),
        (lambda d: d.update(format="other"), "not of the format"),
    ],
)
def test_altered_signature(key: SigningKey, change: Change, message: str) -> None:
    content = sign(key, ADAPTER, "ada/x", FILES).to_json()
    change(content)
    with pytest.raises(SignatureError, match=message):
        Signature.loads(json.dumps(content).encode()).verify(
            kind=ADAPTER, subject="ada/x", files=FILES
        )


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"a":1,"a":2}', b"[" * 100_000])
def test_no_signature(data: bytes) -> None:
    with pytest.raises(SignatureError):
        Signature.loads(data)


def test_signature_of_something_else(key: SigningKey) -> None:
    signature = sign(key, ADAPTER, "ada/x", FILES)
    for kind, subject, files, message in (
        (INDEX, "ada/x", FILES, "not as 'index'"),
        (ADAPTER, "ada/y", FILES, "signed as 'ada/x' and not as 'ada/y'"),
        (ADAPTER, "ada/x", {**FILES, "adapter.safetensors": "c" * 64}, "changed after"),
        (ADAPTER, "ada/x", {"adapter_config.json": "b" * 64}, "is missing, although"),
        (ADAPTER, "ada/x", {**FILES, "more.json": "d" * 64}, "not covered"),
    ):
        with pytest.raises(SignatureError, match=message):
            signature.verify(kind=kind, subject=subject, files=files)


def test_times(key: SigningKey) -> None:
    time = now()
    signature = sign(key, ADAPTER, "ada/x", FILES, expires=time + timedelta(days=1))
    signature.verify(kind=ADAPTER, subject="ada/x", files=FILES)
    for at, message in ((timedelta(days=2), "expired on"), (timedelta(days=-2), "from the future")):
        with pytest.raises(SignatureError, match=message):
            signature.verify(kind=ADAPTER, subject="ada/x", files=FILES, at=time + at)
    old = replace(key, expires=time - timedelta(seconds=1))
    with pytest.raises(SignatureError, match="make a new one"):
        sign(old, ADAPTER, "ada/x", FILES)


def test_documents(key: SigningKey) -> None:
    signature = Signature.from_json(sign_document(key, REPORT, "r", {"a": [1.5, None]}).to_json())
    verify_document(signature, REPORT, "r", {"a": [1.5, None]})
    with pytest.raises(SignatureError, match="changed after"):
        verify_document(signature, REPORT, "r", {"a": [1.5, 0]})


def test_key_files(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.json"
    key.save(path, "secret words")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "BEGIN ENCRYPTED PRIVATE KEY" in path.read_text()
    assert public_of(path)[0] == key.public
    assert SigningKey.load(path, "secret words").private == key.private
    for words, message in ((None, "needs its passphrase"), ("other", "wrong passphrase")):
        with pytest.raises(SignatureError, match=message):
            SigningKey.load(path, words)
    with pytest.raises(SignatureError, match="exists already"):
        key.save(path)
    assert key.private.hex() not in repr(key)
    path.chmod(0o640)
    if os.name == "posix":
        with pytest.raises(SignatureError, match="others on this machine may read"):
            SigningKey.load(path, "secret words")
    with pytest.raises(SignatureError, match="there is no key"):
        SigningKey.load(tmp_path / "nothing")
    (tmp_path / "bad").write_text("{}")
    (tmp_path / "bad").chmod(0o600)
    with pytest.raises(SignatureError, match="not a key file"):
        SigningKey.load(tmp_path / "bad")


def test_trusted_keys(key: SigningKey) -> None:
    trusted = TrustedKeys.load()
    signature = sign(key, ADAPTER, "ada/x", FILES)
    with pytest.raises(SignatureError, match="does not list for 'ada'"):
        trusted.require(signature, "ada")
    trusted.add(key.public, "Ada", note="told by phone")
    trusted.save()
    trusted = TrustedKeys.load()
    assert trusted.require(signature, "ada").note == "told by phone"
    with pytest.raises(SignatureError, match="does not list for 'eve'"):
        trusted.require(signature, "eve")
    trusted.add(key.public, "ada", expires=now() - timedelta(days=1))
    with pytest.raises(SignatureError, match="was signed later"):
        trusted.require(signature, "ada")
    trusted.revoke(key.public)
    trusted.save()
    trusted = TrustedKeys.load()
    with pytest.raises(SignatureError, match="was revoked"):
        trusted.require(signature, "ada")
    with pytest.raises(SignatureError, match="listed as revoked"):
        trusted.add(key.public, "ada")
    trusted.path.write_text("broken")
    with pytest.raises(SignatureError, match="cannot be read"):
        TrustedKeys.load()


def test_key_that_was_never_trusted_can_be_revoked(key: SigningKey) -> None:
    trusted = TrustedKeys.load()
    trusted.revoke(key.public)
    with pytest.raises(SignatureError, match="was revoked"):
        trusted.refuse_revoked(sign(key, ADAPTER, "ada/x", FILES))


def signed(folder: Path, key: SigningKey, subject: str = "ada/x") -> Path:
    folder.mkdir()
    (folder / "adapter.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("# Read me\n")
    hashes = {path.name: file_sha256(path)[0] for path in folder.iterdir()}
    (folder / SIGNATURE_FILE).write_bytes(sign(key, ADAPTER, subject, hashes).dumps())
    return folder


def test_folders(key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = signed(tmp_path / "a", key)
    assert verify_folder(folder, "ada/x") is not None
    (folder / ".gitattributes").write_text("")  # what is not loaded may come later
    assert verify_folder(folder) is not None
    with pytest.raises(SignatureError, match="does not list for 'ada'"):
        verify_folder(folder, "ada/x", True)
    with pytest.raises(SignatureError, match="not by the one required"):
        verify_folder(folder, "ada/x", str(SigningKey(bytes(32)).public))
    assert verify_folder(folder, "ada/x", str(key.public)) is not None
    trusted = TrustedKeys.load(tmp_path / "list.json")
    trusted.add(key.public, "ada")
    trusted.save()
    assert verify_folder(folder, "ada/x", tmp_path / "list.json") is not None
    monkeypatch.setenv("ADAPTERHUB_REQUIRE_SIGNATURE", str(tmp_path / "list.json"))
    assert verify_folder(folder, "ada/x") is not None
    monkeypatch.setenv("ADAPTERHUB_REQUIRE_SIGNATURE", str(tmp_path / "nothing.json"))
    with pytest.raises(SignatureError, match="no list of trusted keys"):
        verify_folder(folder, "ada/x")
    monkeypatch.setenv("ADAPTERHUB_REQUIRE_SIGNATURE", "1")
    with pytest.raises(SignatureError, match="does not list"):
        verify_folder(folder, "ada/x")
    monkeypatch.delenv("ADAPTERHUB_REQUIRE_SIGNATURE")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(SignatureError, match="not covered"):
        verify_folder(folder, "ada/x")
    (folder / "adapter_config.json").unlink()
    (folder / "adapter.safetensors").write_bytes(b"other weights")
    with pytest.raises(SignatureError, match="changed after it was signed"):
        verify_folder(folder, "ada/x")
    (folder / SIGNATURE_FILE).unlink()
    assert verify_folder(folder, "ada/x") is None
    with pytest.raises(SignatureError, match="is not signed, but a signature is required"):
        verify_folder(folder, "ada/x", True)


def test_revoked_key_is_refused_even_where_nothing_is_required(
    key: SigningKey, tmp_path: Path
) -> None:
    folder = signed(tmp_path / "a", key)
    trusted = TrustedKeys.load()
    trusted.revoke(key.public)
    trusted.save()
    with pytest.raises(SignatureError, match="revoked"):
        verify_folder(folder, "ada/x")
    with pytest.raises(SignatureError, match="revoked"):
        verify_folder(folder, "ada/x", str(key.public))


@pytest.mark.parametrize("text", ["", "x", "ed25519:", "ed25519:AAAA", "rsa:AAAA", None, 3])
def test_no_public_keys(text: object) -> None:
    with pytest.raises(SignatureError, match="not a public key"):
        PublicKey.parse(text)
