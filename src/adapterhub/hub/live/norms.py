"""The tensors of stored weight files with their norms, kept in the database once they are known."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from adapterhub.hub.store.blobs import Blobs, FolderBlobs
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Blob, TensorNorms
from adapterhub.hub.store.staging import Staging
from adapterhub.hub.web.source import Tensor
from adapterhub.hub.web.tensorview import tensors_of

if TYPE_CHECKING:
    from adapterhub.hub.verify.intake import Intake

log = logging.getLogger("adapterhub.hub.norms")
#: Larger files are not read while somebody waits for a page.
READ_AT_ONCE = 64 << 20
#: Tensors of one file that are kept; more are in no adapter that a person looks through.
_MOST = 5000


def attach(intake: Intake) -> None:
    """Let the workers of *intake* prepare what pages show, when a commit has passed its checks.

    A page still measures what it does not find, as after an upgrade.
    """
    intake.measure = partial(measure, intake.database, intake.home, intake.staging)


def known(database: Database, sha256: str) -> tuple[Tensor, ...] | None:
    """Return what is kept about a file, ``None`` if nothing is."""
    with database.read() as session:
        row = session.get(TensorNorms, sha256)
    if row is None:
        return None
    return tuple(
        Tensor(name, dtype, tuple(shape), norm) for name, dtype, shape, norm in row.data["tensors"]
    )


def measure(
    database: Database, home: Blobs, staging: Staging, sha256: str, limit: int | None = None
) -> Sequence[Tensor] | None:
    """Return the tensors of a file, read and kept at the first time.

    Args:
        limit: give up (``None``) where the file is not known yet and has more bytes than this.
    """
    found = known(database, sha256)
    if found is not None:
        return found
    with database.read() as session:
        blob = session.get(Blob, sha256)
    if blob is None or (limit is not None and blob.size > limit):
        return None
    if isinstance(home, FolderBlobs):
        tensors = tensors_of(home.path(sha256))
    else:
        with staging.area() as folder:
            path = folder / sha256
            with path.open("wb") as file:
                for piece in home.read(sha256):
                    file.write(piece)
            tensors = tensors_of(path)
    _keep(database, sha256, tensors[:_MOST])
    return tensors


def _keep(database: Database, sha256: str, tensors: Sequence[Tensor]) -> None:
    data: dict[str, Any] = {"tensors": [[t.name, t.dtype, list(t.shape), t.norm] for t in tensors]}
    try:
        with database.write() as session:
            session.merge(TensorNorms(sha256=sha256, data=data))
    except IntegrityError:  # somebody else was faster, or the file has just been removed
        log.info("the norms of %s were not kept", sha256)
