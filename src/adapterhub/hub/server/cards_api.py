"""Cards on a server: names of tasks and data sets, architectures, and adapters whose files are elsewhere."""

from __future__ import annotations

from starlette.responses import Response

from adapterhub.hub.live import cardrows
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, get, put
from adapterhub.hub.store import accounts
from adapterhub.hub.store.refusals import Malformed, all_problems

#: Cards in one request; a client with more sends several.
MOST = 500


def listed(call: Call) -> Response:
    """List the paths of all cards."""
    with call.service.database.read() as session:
        cards = cardrows.load(session).catalogue
    paths = (
        *(card.path for card in cards.tasks.values()),
        *(card.path for card in cards.subtasks.values()),
        *(card.path for card in cards.architectures.values()),
        *(card.path for card in cards.adapters.values()),
    )
    return Json({"cards": sorted(paths)})


def change(call: Call) -> Response:
    """Add cards (``cards``: path to content) and remove some (``remove``: paths); administrators only.

    Raises:
        Unacceptable: If a card is none, with every reason; nothing is changed then.
    """
    call.caller.require_admin()
    body = call.json()
    cards, removed = body.get("cards", {}), body.get("remove", [])
    if not isinstance(cards, dict) or not isinstance(removed, list):
        raise Malformed("'cards' must be an object, 'remove' a list of paths")
    if len(cards) > MOST or len(removed) > MOST:
        raise Malformed(f"at most {MOST} cards in one request")
    if not all(isinstance(path, str) for path in removed):
        raise Malformed("'remove' must be a list of paths")
    problems = cardrows.problems_of(cards)
    if problems:
        raise all_problems("These cards cannot be taken over", problems)
    with call.service.database.write() as session:
        cardrows.merge(session, cards, removed)
        accounts.audit(
            session, call.caller, "cards", "cards", f"{len(cards)} set, {len(removed)} removed"
        )
    return Json({"set": len(cards), "removed": len(removed)})


ROUTES: list[Route] = [get("/api/hub/v1/cards", listed), put("/api/hub/v1/cards", change)]
