"""What files of weights look like from afar, to find copies that a hash does not show.

A copy in another type (float32 as bfloat16) or under another name has the same shapes, and the norm of
every tensor is the same within the precision of the type. Two adapters that were trained apart differ in
some tensor by far more.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from adapterhub.hub.store.models import Likeness

#: bfloat16 keeps 8 bits; of a norm, which is a sum, far more than that remains.
TOLERANCE = 2e-3
_CANDIDATES = 500


def note(session: Session, sha256: str, shapes: str, norms: Sequence[float]) -> None:
    """Remember what a file looks like.

    Args:
        shapes: a hash of the shapes of its tensors. norms: of the tensors, by name.
    """
    if session.get(Likeness, sha256) is not None:
        return
    try:
        with session.begin_nested():
            session.add(Likeness(sha256=sha256, shapes=shapes, norms={"norms": list(norms)}))
    except IntegrityError:  # another worker wrote the same just now
        return


def alike(session: Session, sha256: str) -> list[str]:
    """Return the hashes of other files whose tensors have the same shapes and nearly the same norms."""
    mine = session.get(Likeness, sha256)
    if mine is None or not any(mine.norms["norms"]):
        return []
    rows = session.scalars(
        select(Likeness)
        .where(Likeness.shapes == mine.shapes, Likeness.sha256 != sha256)
        .limit(_CANDIDATES)
    )
    return [row.sha256 for row in rows if _near(mine.norms["norms"], row.norms["norms"])]


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in zip(one, other, strict=True)
    )
