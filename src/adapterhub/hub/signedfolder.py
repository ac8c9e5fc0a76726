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

#: What loading an adapter reads. Everything else (a README, a .gitattributes) may go unsigned.
_LOADED = re.compile(r"(?i).*\.(?:safetensors|json|model|spm|jinja2?|txt)")

#: Whose signature is wanted: nobody's; that of a trusted key; that of one key (``ed25519:...``); or that of
#: a key in another list (a path).
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
    if given is not None:
        return given
    text = os.environ.get(REQUIRE_VARIABLE, "")
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
    other = None if isinstance(required, bool) or required is None else Path(required).expanduser()
    if other is not None and not other.is_file():
        raise SignatureError(f"there is no list of trusted keys {other}")
    trusted = TrustedKeys.load(other)
    if required:
        trusted.require(signature, signature.statement.subject.partition("/")[0])
    else:
        trusted.refuse_revoked(signature)
