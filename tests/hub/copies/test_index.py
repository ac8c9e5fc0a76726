"""The signed list of all cards: who is believed, until when, and that the past does not come back."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from adapterhub.hub import Hub
from adapterhub.hub.copies import index as indexes
from adapterhub.hub.copies.choose import mirror
from adapterhub.hub.signing import PublicKey, Signature, SignatureError, SigningKey, now
from adapterhub.hub.static import build_site
from tests.hub.copies.conftest import WebServer

pytest.importorskip("cryptography", reason="signatures need the [hub] extra")


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate("hub")


def sign(site: WebServer, key: SigningKey, days: float = 14) -> None:
    index = indexes.loads((site.root / indexes.INDEX_FILE).read_bytes())
    made = indexes.sign_index(key, index, days=days).dumps()
    (site.root / indexes.SIGNATURE_FILE).write_bytes(made)


def test_the_index_is_read_as_it_was_written(filled: Hub) -> None:
    cards = {"adapters/a/b.yaml": b"type: t\ntask: x\nsubtask: y\n", "tasks/t/x.yaml": b"task: x\n"}
    index = indexes.make_index(cards, name="h", description='"quotes"\n', layout="pages")
    data = indexes.dumps(index)
    assert indexes.loads(data) == index
    assert data == indexes.dumps(json.loads(data))
    assert index["cards"]["adapters/a/b.yaml"]["task"] == "x/y"


def test_a_build_signs_it_and_a_mirror_remembers_the_key(
    site: WebServer, filled: Hub, tmp_path: Path, key: SigningKey
) -> None:
    build_site(filled, site.root, key=key)
    _, origin = mirror(site.url, tmp_path / "m", keys=[str(key.public)])
    assert origin.seen is not None  # type: ignore[union-attr]
    mirror(site.url, tmp_path / "m")
    # From now on an index without that signature is not believed, whoever is asked for nothing.
    (site.root / indexes.SIGNATURE_FILE).unlink()
    with pytest.raises(SignatureError, match="not signed"):
        mirror(site.url, tmp_path / "m")
    sign(site, SigningKey.generate())
    with pytest.raises(SignatureError, match="not one of those"):
        mirror(site.url, tmp_path / "m")
    (site.root / indexes.INDEX_FILE).unlink()
    with pytest.raises(SignatureError, match="publishes no index"):
        mirror(site.url, tmp_path / "m")


def test_an_index_that_was_changed_after_it_was_signed(
    site: WebServer, tmp_path: Path, key: SigningKey
) -> None:
    sign(site, key)
    path = site.root / indexes.INDEX_FILE
    index = json.loads(path.read_bytes())
    del index["cards"]["adapters/bob/nli-c.yaml"]
    path.write_text(json.dumps(index))
    with pytest.raises(SignatureError, match="changed after"):
        mirror(site.url, tmp_path / "m", keys=[str(key.public)])
    assert not (tmp_path / "m" / "adapters").exists()


def test_an_expired_index(site: WebServer, tmp_path: Path, key: SigningKey) -> None:
    sign(site, key, days=-1)
    with pytest.raises(SignatureError, match="expired"):
        mirror(site.url, tmp_path / "m", keys=[str(key.public)])


def test_an_older_index_than_was_seen_before(
    site: WebServer, filled: Hub, tmp_path: Path, key: SigningKey
) -> None:
    old = (site.root / indexes.INDEX_FILE).read_bytes()
    index = indexes.loads(old)
    first = indexes.sign_index(key, index)
    signature = Signature.loads(first.dumps())
    keys = {key.public: "hub"}
    seen = indexes.believe(index, old, signature, keys)
    assert indexes.believe(index, old, signature, keys, before=seen) == seen
    later = indexes.Seen(seen.key, "2999-01-01T00:00:00Z", seen.sha256)
    with pytest.raises(SignatureError, match="rollback"):
        indexes.believe(index, old, signature, keys, before=later)
    with pytest.raises(SignatureError, match="expired"):
        indexes.believe(index, old, signature, keys, at=now() + timedelta(days=15))


def test_a_signature_that_never_expires_is_not_enough(site: WebServer, key: SigningKey) -> None:
    from adapterhub.hub.signing import INDEX, sign_document

    data = (site.root / indexes.INDEX_FILE).read_bytes()
    index = indexes.loads(data)
    signature = sign_document(key, INDEX, str(index["hub"]), index)
    with pytest.raises(SignatureError, match="no time at which it expires"):
        indexes.believe(index, data, signature, {key.public: ""})


def test_a_signature_of_something_else(site: WebServer, key: SigningKey) -> None:
    from adapterhub.hub.signing import sign_document

    data = (site.root / indexes.INDEX_FILE).read_bytes()
    index = indexes.loads(data)
    for kind, subject in (("adapter", index["hub"]), ("index", "another hub")):
        signature = sign_document(key, kind, subject, index, expires=now() + timedelta(days=1))
        with pytest.raises(SignatureError, match="signed as"):
            indexes.believe(index, data, signature, {key.public: ""})


def test_a_key_that_was_revoked(
    site: WebServer, tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapterhub.hub.trust import TrustedKeys

    monkeypatch.setenv("ADAPTERHUB_TRUSTED_KEYS", str(tmp_path / "trusted.json"))
    sign(site, key)
    mirror(site.url, tmp_path / "m", keys=[str(key.public)])
    trusted = TrustedKeys.load()
    trusted.revoke(key.public)
    trusted.save()
    with pytest.raises(SignatureError, match="revoked"):
        mirror(site.url, tmp_path / "m")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"format": "adapterhub-index/2"}', b"[" * 100_000, b"\xff"],
)
def test_what_is_no_index(data: bytes) -> None:
    from adapterhub.errors import HubError

    with pytest.raises(HubError):
        indexes.loads(data)


def test_keys_are_checked_when_given(site: WebServer, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="not a public key"):
        mirror(site.url, tmp_path / "m", keys=["ed25519:nonsense"])
    assert str(PublicKey(b"\0" * 32)).startswith("ed25519:")
