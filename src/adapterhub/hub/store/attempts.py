"""How often somebody may guess a password.

Failures are counted in the database, so the count holds for all processes of a hub and across restarts:
per account and address together, per address (an IPv6 network counts as one), and per account. The last
limit is high, since whoever reaches it keeps the owner of the account out, too, for the rest of the
window.
"""

from __future__ import annotations

import ipaddress
import math
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.hub.store.models import Attempt, utcnow
from adapterhub.hub.store.refusals import TooMany
from adapterhub.hub.store.upsert import insert_missing

WINDOW = timedelta(minutes=15)
#: Failures in a window after which no more are looked at.
PER_PAIR, PER_ADDRESS, PER_ACCOUNT = 5, 30, 100


def network(address: str) -> str:
    """Return what counts as one address: that of IPv4, the /64 network of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _keys(name: str, address: str) -> dict[str, int]:
    who, where = name.casefold()[:100], network(address)
    return {
        f"both:{who}:{where}": PER_PAIR,
        f"address:{where}": PER_ADDRESS,
        f"account:{who}": PER_ACCOUNT,
    }


def take(session: Session, name: str, address: str) -> None:
    """Count one attempt as failed before it is looked at, so that many at once are no way around.

    Raises:
        TooMany: If there were too many; with the time after which it is worth trying again.
    """
    now = utcnow()
    session.execute(delete(Attempt).where(Attempt.since <= now - WINDOW))
    keys = _keys(name, address)
    for key in sorted(keys):  # in one order, or two attempts could wait for each other
        insert_missing(session, Attempt, key=key, count=0, since=now)
    rows = session.scalars(
        select(Attempt).where(Attempt.key.in_(keys)).order_by(Attempt.key).with_for_update()
    ).all()
    over = [row for row in rows if row.count >= keys[row.key]]
    if over:
        left = max(row.since for row in over) + WINDOW - now
        wait = max(1, math.ceil(left.total_seconds()))
        minutes = -(-wait // 60)
        raise TooMany(
            f"Too many attempts to sign in failed; wait {minutes} minute{'s' if minutes > 1 else ''}.",
            headers={"Retry-After": str(wait)},
        )
    for row in rows:
        row.count += 1
    session.flush()


def give_back(session: Session, name: str, address: str) -> None:
    """Take the counts of *name* back after a sign-in that succeeded."""
    keys = _keys(name, address)
    for row in session.scalars(select(Attempt).where(Attempt.key.in_(keys)).with_for_update()):
        if row.key.startswith("both:"):
            session.delete(row)
        else:
            row.count = max(0, row.count - 1)
