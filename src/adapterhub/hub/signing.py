"""Ed25519 signatures of what a hub holds: adapters, evaluation reports, its index.

A signature is made over a *statement*: what kind of thing this is, which thing (``owner/name``), the
SHA-256 of each of its files, when it was signed and until when that holds. So a signature of one adapter
is worth nothing under another name, beside other files, or as a signature of something else. The signed
bytes are a fixed first line and the statement as JSON with sorted keys (:meth:`Statement.canonical`), so
that any program can make and check them. A document (a report, an index) is signed as a thing with
one file: its canonical JSON (:func:`sign_document`).

Whose key it is, and whether that is to be believed, is the business of :mod:`.trust`.
Needs the package ``cryptography`` (``pip install 'adapterhub[sign]'``); nothing is imported before use.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.tensors import strict_json

#: The file of a commit that holds the signature of the others.
SIGNATURE_FILE = "adapterhub.sig.json"

ADAPTER, REPORT, INDEX = "adapter", "evaluation-report", "index"

_FIRST_LINE = b"adapterhub signed statement 1\n"
_FORMAT, _KEY_FORMAT = "adapterhub-signature/1", "adapterhub-key/1"
_PREFIX = "ed25519:"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 1 << 20
#: Clocks differ; a signature from further ahead was made with a wrong one.
_SKEW = timedelta(hours=1)


class SignatureError(HubError):
    """A signature is wrong, out of date, missing where one is needed, or by a key that is not trusted."""

    final = True


def now() -> datetime:
    """Return the current time in UTC, in whole seconds, as statements hold it."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def moment(text: Any, what: str) -> datetime | None:
    """Read a time of a statement or key file, such as ``2026-11-21T15:00:00Z``; ``None`` stays.

    Raises:
        SignatureError: If it is none, or has no time zone.
    """
    if text is None:
        return None
    try:
        # Python 3.10 does not know the Z.
        found = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise SignatureError(f"{what} is {text!r:.60} and not a time such as 2026-11-21T15:00:00Z")
    return found.astimezone(timezone.utc)


def stamp(time: datetime | None) -> str | None:
    """Write a time as :func:`moment` reads it; ``None`` stays."""
    if time is None:
        return None
    return time.astimezone(timezone.utc).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class PublicKey:
    """The public half of a key: 32 bytes, written ``ed25519:<base64>``."""

    raw: bytes

    @classmethod
    def parse(cls, text: Any) -> PublicKey:
        """Read a key from its text.

        Raises:
            SignatureError: If it is not a key.
        """
        try:
            if not isinstance(text, str) or not text.startswith(_PREFIX):
                raise ValueError
            raw = base64.b64decode(text.strip()[len(_PREFIX) :], validate=True)
            if len(raw) != 32:
                raise ValueError
        except (ValueError, binascii.Error):
            raise SignatureError(
                f"{text!r:.80} is not a public key; one is written {_PREFIX}<44 letters of base64>"
            ) from None
        return cls(raw)

    def __str__(self) -> str:
        return _PREFIX + base64.b64encode(self.raw).decode()

    @property
    def id(self) -> str:
        """What people compare: the first 16 bytes of the SHA-256 of the key, in hexadecimal."""
        return hashlib.sha256(self.raw).hexdigest()[:32]

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Tell whether *signature* of *data* was made with the private half of this key."""
        _require()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """Both halves of a key. Never shown, never logged: ``repr`` names the public half only.

    Attributes:
        private: the 32 secret bytes.
        name: whose it is, for people.
        created, expires: when it was made, and from when on it must not sign any more.
    """

    private: bytes = field(repr=False)
    name: str = ""
    created: datetime = field(default_factory=now)
    expires: datetime | None = None

    @classmethod
    def generate(cls, name: str = "", *, expires: datetime | None = None) -> SigningKey:
        """Make a new random key."""
        _require()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate().private_bytes_raw(), name, expires=expires)

    @property
    def public(self) -> PublicKey:
        """The half that others may know."""
        _require()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(self.private).public_key()
        return PublicKey(key.public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the signature of *data*.

        Raises:
            SignatureError: If the key has expired.
        """
        _require()
        if self.expires is not None and self.expires <= now():
            raise SignatureError(
                f"key {self.public.id} expired on {stamp(self.expires)}; make a new one with "
                "'adapterhub hub key new'"
            )
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.private).sign(data)

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write the key to a new file that only its owner may read (0600).

        Args:
            passphrase: to encrypt it with; without one, who has the file has the key.

        Raises:
            SignatureError: If the file exists: a key that is overwritten is lost.
        """
        _require()
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        how = form.BestAvailableEncryption(passphrase.encode()) if passphrase else None
        pem = Ed25519PrivateKey.from_private_bytes(self.private).private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, how or form.NoEncryption()
        )
        content = {
            "format": _KEY_FORMAT,
            "name": self.name,
            "public": str(self.public),
            "created": stamp(self.created),
            "expires": stamp(self.expires),
            "private": pem.decode(),
        }
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise SignatureError(
                f"{path} exists already; keep that key, or give another file"
            ) from error
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> SigningKey:
        """Read a key that :meth:`save` wrote.

        Raises:
            SignatureError: If there is none, others may read the file, or the passphrase is wrong.
        """
        _require()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        content = _read_key_file(path)
        try:
            pem = str(content["private"]).encode()
            key = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
        except TypeError as error:
            need = "needs its passphrase" if passphrase is None else "has no passphrase"
            raise SignatureError(f"the key in {path} {need}") from error
        except (KeyError, ValueError) as error:
            raise SignatureError(f"{path}: wrong passphrase, or no key file") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SignatureError(f"{path} holds a key of another kind than ed25519")
        expires = moment(content.get("expires"), f"'expires' in {path}")
        created = moment(content.get("created"), f"'created' in {path}")
        name = str(content.get("name") or "")
        return cls(key.private_bytes_raw(), name, created or now(), expires)


def public_of(path: Path) -> tuple[PublicKey, dict[str, Any]]:
    """Return the public half in a key file and its other public words; needs no passphrase.

    Raises:
        SignatureError: If there is no such file, or others may read it.
    """
    content = _read_key_file(path)
    return PublicKey.parse(content.get("public")), {
        name: content.get(name) for name in ("name", "created", "expires")
    }


def _read_key_file(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & 0o077:
            raise SignatureError(
                f"others on this machine may read the private key in {path}; 'chmod 600 {path}' "
                "keeps them out (if they might have, make a new key)"
            )
        content = strict_json(path.read_bytes())
    except FileNotFoundError as error:
        raise SignatureError(
            f"there is no key in {path}; make one with 'adapterhub hub key new'"
        ) from error
    except ValueError as error:
        # Our own error is a ValueError, too.
        if isinstance(error, SignatureError):
            raise
        raise SignatureError(f"{path} is not a key file of adapterhub") from error
    if not isinstance(content, dict) or content.get("format") != _KEY_FORMAT:
        raise SignatureError(f"{path} is not a key file of adapterhub")
    return content


@dataclass(frozen=True)
class Statement:
    """What is signed.

    Attributes:
        kind: ``adapter``, ``evaluation-report`` or ``index``.
        subject: which one, e.g. ``owner/name``.
        files: name to SHA-256 (hexadecimal) of all that belongs to it.
        signed: when.
        expires: from when on it does not hold any more; ``None`` for always.
    """

    kind: str
    subject: str
    files: Mapping[str, str]
    signed: datetime = field(default_factory=now)
    expires: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the statement as plain values."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "files": dict(sorted(self.files.items())),
            "signed": stamp(self.signed),
            "expires": stamp(self.expires),
        }

    @classmethod
    def from_json(cls, value: Any) -> Statement:
        """Read a statement.

        Raises:
            SignatureError: If it is none.
        """
        if not isinstance(value, dict) or set(value) != {
            "kind",
            "subject",
            "files",
            "signed",
            "expires",
        }:
            raise SignatureError("the signed statement must have kind, subject, files and times")
        files = value["files"]
        if not isinstance(files, dict) or not all(
            isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in files.values()
        ):
            raise SignatureError("the signed statement must give the SHA-256 of each file")
        if not isinstance(value["kind"], str) or not isinstance(value["subject"], str):
            raise SignatureError("kind and subject of the signed statement must be text")
        signed = moment(value["signed"], "'signed'")
        if signed is None:
            raise SignatureError("the signed statement does not say when it was signed")
        return cls(
            value["kind"], value["subject"], files, signed, moment(value["expires"], "'expires'")
        )

    def canonical(self) -> bytes:
        """Return the bytes that are signed: a first line, and JSON without choices."""
        return _FIRST_LINE + canonical_json(self.to_json())


@dataclass(frozen=True)
class Signature:
    """A statement with the signature of one key."""

    statement: Statement
    key: PublicKey
    value: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the content of a signature file as plain values."""
        return {
            "format": _FORMAT,
            "statement": self.statement.to_json(),
            "key": str(self.key),
            "signature": base64.b64encode(self.value).decode(),
        }

    def dumps(self) -> bytes:
        """Return the bytes of a signature file."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()

    @classmethod
    def loads(cls, data: bytes) -> Signature:
        """Read a signature file; nothing is verified yet.

        Raises:
            SignatureError: If it is none.
        """
        if len(data) > _MAX_BYTES:
            raise SignatureError(f"a signature has at most {_MAX_BYTES >> 20} MiB")
        try:
            return cls.from_json(strict_json(data))
        except SignatureError:
            raise
        except ValueError as error:
            raise SignatureError(f"the signature is not JSON: {error}") from error

    @classmethod
    def from_json(cls, value: Any) -> Signature:
        """As :meth:`loads`, from plain values."""
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise SignatureError(f"the signature is not of the format {_FORMAT}")
        try:
            signature = base64.b64decode(value.get("signature") or "", validate=True)
        except (TypeError, ValueError) as error:
            raise SignatureError("the signature is not base64") from error
        statement = Statement.from_json(value.get("statement"))
        return cls(statement, PublicKey.parse(value.get("key")), signature)

    def verify(
        self,
        *,
        kind: str,
        subject: str,
        files: Mapping[str, str],
        free: Mapping[str, str] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Check that the signature is right and says just this.

        Args:
            kind, subject: what it must be for; the case of letters in *subject* does not count.
            files: name to SHA-256 of what is there, all of which it must cover.
            free: further files, which it may leave out, but must not contradict.
            at: the time for which it must hold. Default: now.

        Raises:
            SignatureError: If any of that is not so.
        """
        said, time = self.statement, at or now()
        if not self.key.verify(self.value, said.canonical()):
            raise SignatureError(
                f"the signature by key {self.key.id} is wrong: it was not made over what stands there"
            )
        if said.kind != kind:
            raise SignatureError(f"this is signed as {said.kind!r:.40} and not as {kind!r}")
        if said.subject.casefold() != subject.casefold():
            raise SignatureError(
                f"this was signed as {said.subject!r:.120} and not as {subject!r}; after a move or a "
                "copy it must be signed again"
            )
        there = {**(free or {}), **files}
        for name, digest in said.files.items():
            if there.get(name) != digest:
                state = "changed after" if name in there else "is missing, although"
                raise SignatureError(f"{name!r:.120} {state} it was signed")
        unsigned = sorted(set(files) - set(said.files))
        if unsigned:
            raise SignatureError(f"{unsigned[0]!r:.120} is not covered by the signature")
        if said.signed > time + _SKEW:
            raise SignatureError(f"the signature is from the future ({stamp(said.signed)})")
        if said.expires is not None and said.expires <= time:
            raise SignatureError(f"the signature expired on {stamp(said.expires)}")


def sign(
    key: SigningKey,
    kind: str,
    subject: str,
    files: Mapping[str, str],
    *,
    expires: datetime | None = None,
    signed: datetime | None = None,
) -> Signature:
    """Sign a thing by the SHA-256 of its files; see :class:`Statement`. *signed* is now by default.

    Raises:
        SignatureError: If the key has expired.
    """
    statement = Statement(kind, subject, dict(files), signed or now(), expires)
    return Signature(statement, key.public, key.sign(statement.canonical()))


def canonical_json(value: Any) -> bytes:
    """Return plain values as JSON that is the same everywhere: sorted, without blanks, ASCII.

    Raises:
        ValueError: If there is a NaN or an infinity in it.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sign_document(
    key: SigningKey,
    kind: str,
    subject: str,
    document: Any,
    *,
    expires: datetime | None = None,
    signed: datetime | None = None,
) -> Signature:
    """Sign plain values (a report, an index) by the SHA-256 of their canonical JSON."""
    files = _document_files(document)
    return sign(key, kind, subject, files, expires=expires, signed=signed)


def verify_document(
    signature: Signature,
    kind: str,
    subject: str,
    document: Any,
    *,
    at: datetime | None = None,
) -> None:
    """Check the signature of plain values.

    Raises:
        SignatureError: If it is not right, not for this, or not for this time.
    """
    files = _document_files(document)
    signature.verify(kind=kind, subject=subject, files=files, at=at)


def _document_files(document: Any) -> dict[str, str]:
    return {"document": hashlib.sha256(canonical_json(document)).hexdigest()}


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise SignatureError(
            "signatures need the package 'cryptography': pip install 'adapterhub[sign]'"
        ) from error
