"""The signature of an adapter's folder: which files it must cover, and whether a user accepts it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from adapterhub.hub.signing import ADAPTER, SIGNATURE_FILE, PublicKey, Signature, SignatureError
from adapterhub.hub.storage import file_sha256
from adapterhub.hub.trust import TrustedKeys

REQUIRE_VARIABLE = "ADAPTERHUB_REQUIRE_SIGNATURE"
HUB = "hub"

#: What loading an adapter reads. Everything else (a README, a .gitattributes) may go unsigned.
_LOADED = re.compile(r"(?i).*\.(?:safetensors|json|model|spm|jinja2?|txt)")

#: Whose signature is wanted: nobody's; that of a trusted key; that of one key (``ed25519:...``); that of
#: a key in another list (a path); or only that of the hub over its index (``"hub"``; :mod:`.signedindex`).
Requirement = bool | str | os.PathLike[str] | None


def split(files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return which files (name to SHA-256) a signature must cover, and which it may leave out."""
    rest = {name: digest for name, digest in files.items() if name != SIGNATURE_FILE}
    must = {name: digest for name, digest in rest.items() if _LOADED.fullmatch(name)}
    return must, {name: digest for name, digest in rest.items() if name not in must}


def verify(
    data: bytes, subject: str | None, files: Mapping[str, str], at: datetime | None = None
) -> Signature:
    """Return the signature of an adapter's files after it was verified.

    Args:
        data: content of the signature file.
        subject: ``owner/name``; ``None``: whatever it says.
        files: name to SHA-256 of all files there are.
        at: the time for which it must hold. Default: now.

    Raises:
        SignatureError: If it is wrong.
    """
    signature = Signature.loads(data)
    must, free = split(files)
    wanted = signature.statement.subject if subject is None else subject
    signature.verify(kind=ADAPTER, subject=wanted, files=must, free=free, at=at)
    return signature


def default_requirement(given: Requirement) -> Requirement:
    """Return what is wanted, where the caller does not say: ``$ADAPTERHUB_REQUIRE_SIGNATURE``."""
    return given if given is not None else requirement_of(os.environ.get(REQUIRE_VARIABLE, ""))


def requirement_of(text: str) -> Requirement:
    """Read what is wanted from a text: ``1`` or ``0``, ``hub``, a key, or a path."""
    if text.lower() in ("", "0", "no", "false"):
        return False
    return True if text.lower() in ("1", "yes", "true") else text


def verify_folder(
    folder: Path, subject: str | None = None, required: Requirement = None
) -> Signature | None:
    """Check the signature of a folder; return it, or ``None`` if there is none and none is needed.

    A wrong signature is an error in any case, and so is one by a revoked key.

    Args:
        subject: ``owner/name`` as which the folder was asked for; ``None``: as the signature says.
        required: whose signature is needed; see :data:`Requirement`.

    Raises:
        SignatureError: If it is wrong, or is needed and missing or by a key that is not wanted.
    """
    required = default_requirement(required)
    required = False if required == HUB else required
    label = subject or str(folder)
    path = folder / SIGNATURE_FILE
    if not path.is_file():
        if required:
            raise SignatureError(f"{label} is not signed, but a signature is required")
        return None
    files = {
        found.relative_to(folder).as_posix(): file_sha256(found)[0]
        for found in sorted(folder.rglob("*"))
        if found.is_file()
    }
    try:
        signature = verify(path.read_bytes(), subject, files)
        _accept(signature, required)
    except SignatureError as error:
        raise SignatureError(f"{label}: {error}") from error
    return signature


def _accept(signature: Signature, required: Requirement) -> None:
    if isinstance(required, str) and required.startswith("ed25519:"):
        if signature.key != PublicKey.parse(required):
            raise SignatureError(f"it is signed by key {signature.key.id}, not by the one required")
        TrustedKeys.load().refuse_revoked(signature)
        return
    trusted = trust_list(required)
    if required:
        trusted.require(signature, signature.statement.subject.partition("/")[0])
    else:
        trusted.refuse_revoked(signature)


def trust_list(required: Requirement) -> TrustedKeys:
    """Return the list of keys that *required* means: the one it names, else the user's own.

    Raises:
        SignatureError: If there is none of that name, or it cannot be read.
    """
    if required is None or isinstance(required, bool) or required == HUB:
        return TrustedKeys.load()
    if isinstance(required, str) and required.startswith("ed25519:"):
        return TrustedKeys.load()
    other = Path(required).expanduser()
    if not other.is_file():
        raise SignatureError(f"there is no list of trusted keys {other}")
    return TrustedKeys.load(other)
