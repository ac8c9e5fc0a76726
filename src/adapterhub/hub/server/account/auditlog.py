"""The audit log, for administrators."""

from __future__ import annotations

from sqlalchemy import select
from starlette.responses import Response

from adapterhub.hub.server.account.show import require_admin, show
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, page
from adapterhub.hub.store.models import Audit

_ROWS = 100


def audit_page(call: Call) -> Response:
    """Show the newest lines, or those before a line; of one actor, action or target."""
    require_admin(call)
    before = call.number("before", 10**9 - 1, 1, 10**9 - 1)
    chosen = {key: call.first(key)[:255].strip() for key in ("actor", "action", "target")}
    with call.service.database.read() as session:
        query = select(Audit).where(Audit.id < before)
        for key, value in chosen.items():
            if value:
                query = query.where(getattr(Audit, key) == value)
        rows = session.scalars(query.order_by(Audit.id.desc()).limit(_ROWS + 1)).all()
        actions = sorted(session.scalars(select(Audit.action).distinct()))
    return show(
        call,
        "audit.html",
        "Audit log",
        section="settings/hub/audit/",
        rows=rows[:_ROWS],
        more=rows[_ROWS - 1].id if len(rows) > _ROWS else None,
        chosen=chosen,
        actions=actions,
    )


ROUTES: list[Route] = [page("/settings/hub/audit/", audit_page)]
