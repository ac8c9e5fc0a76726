"""The pages on which people sign in, publish, and look after what is theirs.

They are written by the server and work without JavaScript. :mod:`.signin` lets people in,
:mod:`.profile`, :mod:`.tokens`, :mod:`.organisations` and :mod:`.adapters` are about one's own things,
:mod:`.access` about gated adapters of others, :mod:`.users` and :mod:`.auditlog` are for administrators,
and :mod:`.publish` takes an adapter from the browser. Each reads a form, calls the store, which holds all
rules, and shows a page (:mod:`.show`). Who somebody is follows from the cookie
(:mod:`adapterhub.hub.server.visitor`); forms are only taken from these pages
(:mod:`adapterhub.hub.server.forms`).
"""

from __future__ import annotations

from adapterhub.hub.server.account import (
    access,
    adapters,
    auditlog,
    organisations,
    profile,
    publish,
    signin,
    tokens,
    users,
)
from adapterhub.hub.server.routing import Route

ROUTES: list[Route] = [
    *signin.ROUTES,
    *profile.ROUTES,
    *tokens.ROUTES,
    *organisations.ROUTES,
    *adapters.ROUTES,
    *access.ROUTES,
    *users.ROUTES,
    *auditlog.ROUTES,
    *publish.ROUTES,
]
