"""The signature of a version in a hub folder, as the pages show it."""

from __future__ import annotations

from pathlib import Path

from adapterhub.hub.cards import AdapterVersion
from adapterhub.hub.folderkeys import FolderKeys
from adapterhub.hub.signedfolder import verify
from adapterhub.hub.signing import SIGNATURE_FILE, Signature, SignatureError, stamp
from adapterhub.hub.storage import blob_path
from adapterhub.hub.web.source import Signed

_MOST_BYTES = 1 << 20


def signed_of(
    root: Path, keys: FolderKeys, owner: str, name: str, version: AdapterVersion
) -> Signed | None:
    """Return the signature of a version, verified; ``None`` if it has none.

    It is checked for the time at which it was made, so that the same folder gives the same pages for ever.
    """
    files = {member.path: member.sha256 for member in version.members}
    if SIGNATURE_FILE not in files:
        return None
    path = blob_path(root, files[SIGNATURE_FILE])
    try:
        with path.open("rb") as reader:
            data = reader.read(_MOST_BYTES + 1)
    except OSError:
        return Signed("wrong", message="the signature is missing from this hub")
    try:
        signature = Signature.loads(data)
    except SignatureError as error:
        return Signed("wrong", message=str(error))
    said, key = signature.statement, signature.key
    row = keys.find(key)
    by, time = row.account if row else "", stamp(said.signed) or ""
    try:
        verify(data, f"{owner}/{name}", files, said.signed)
        refused = keys.refusal(key, said.signed)
    except SignatureError as error:
        refused = str(error)
    if refused is not None:
        return Signed("wrong", key.id, by, time, refused)
    if row is None:
        message = "the signature is right, but nobody has listed that key here"
        return Signed("unknown", key.id, by, time, message)
    if by.casefold() != owner.casefold():
        message = f"the signature is right, but {by} is not {owner}"
        return Signed("unknown", key.id, by, time, message)
    return Signed("ok", key.id, by, time)
