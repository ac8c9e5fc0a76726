"""What adapters made of a text, as records that a page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapterhub.hub.web import links
from adapterhub.hub.web.pages import Page
from adapterhub.hub.web.source import Adapter, HubInfo, Trial

#: Colours for types of tags; further types share the last one.
COLOURS = 8


@dataclass(frozen=True)
class Share:
    """A label with its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Piece:
    """A stretch of the text; *label* is empty outside of tags, *colour* counts from 1."""

    text: str
    label: str = ""
    colour: int = 0
    probability: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What one adapter made of a text.

    Attributes:
        identifier: ``@owner/name``.
        kind: ``classification``, ``regression``, ``tagging``, ``generation``, or empty with an *error*.
        shares: of the labels, highest first; *several*: they are independent of each other.
        others: how many labels are not shown.
        cut: whether the text was too long for the model.
        rows, adapters: of the batch in which it was computed.
    """

    identifier: str
    kind: str = ""
    shares: Sequence[Share] = ()
    several: bool = False
    others: int = 0
    value: float | None = None
    pieces: Sequence[Piece] = ()
    text: str = ""
    cut: bool = False
    rows: int = 1
    adapters: int = 1
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TryPage(Page):
    """A text, and what one adapter (or several side by side) made of it.

    Attributes:
        action: address to which the form goes.
        asked: identifiers of the adapters.
        adapter: the one that it is about, if it is one.
        error: why there is no outcome.
    """

    has_twin: ClassVar[bool] = False
    action: str
    asked: Sequence[str]
    trial: Trial | None
    text: str
    new_tokens: int
    outcomes: Sequence[Outcome] = ()
    adapter: Adapter | None = None
    error: str = ""


def outcome_of(result: Mapping[str, Any], text: str) -> Outcome:
    """Return the record of a result of :meth:`~adapterhub.hub.server.tryit_jobs.TryIt.run`."""
    name = "@" + str(result["adapter"]).removeprefix("@")
    if "error" in result:
        return Outcome(name, error=str(result["error"]))
    labels = result.get("labels", ())
    return Outcome(
        identifier=name,
        kind=result["kind"],
        shares=[Share(item["label"], item["probability"]) for item in labels],
        several=result.get("several", False),
        others=max(0, result.get("of", 0) - len(labels)),
        value=result.get("value"),
        pieces=pieces_of(result.get("words", ()), text),
        text=result.get("text", ""),
        cut=result["cut"],
        rows=result["batch"]["rows"],
        adapters=result["batch"]["adapters"],
    )


def pieces_of(words: Sequence[Mapping[str, Any]], text: str) -> list[Piece]:
    """Return the text in pieces: each tagged stretch, and what is between.

    A word tagged ``I-X`` goes on a stretch of ``X``. A stretch is as probable as its least probable word.
    """
    pieces: list[Piece] = []
    colours: dict[str, int] = {}
    at, last_kind = 0, ""
    for word in words:
        mark, _, rest = word["label"].partition("-")
        tagged = word["label"] != "O"
        kind = (rest if mark in ("B", "I") and rest else word["label"]) if tagged else ""
        between = text[at : word["start"]]
        goes_on = tagged and kind == last_kind and mark == "I" and not between.strip()
        if goes_on:
            before = pieces.pop()
            whole = before.text + text[at : word["end"]]
            likely = min(before.probability or 0.0, word["probability"])
            pieces.append(Piece(whole, kind, before.colour, likely))
        else:
            if between:
                pieces.append(Piece(between))
            colour = min(colours.setdefault(kind, len(colours) + 1), COLOURS) if tagged else 0
            likely = word["probability"] if tagged else None
            pieces.append(Piece(text[word["start"] : word["end"]], kind, colour, likely))
        at, last_kind = word["end"], kind
    if text[at:]:
        pieces.append(Piece(text[at:]))
    return pieces


def try_page(
    hub: HubInfo,
    asked: Sequence[str],
    trial: Trial | None,
    text: str,
    new_tokens: int,
    *,
    adapter: Adapter | None = None,
    results: Sequence[Mapping[str, Any]] = (),
    error: str = "",
) -> TryPage:
    """Return the page with a form and, once there are *results*, the outcomes."""
    crumbs: tuple[tuple[str, str], ...] = (("Compare", links.compare(asked)),)
    path = action = links.COMPARE_TRY
    title = "Try side by side"
    if adapter is not None:
        crumbs = ((adapter.identifier, links.adapter(adapter.owner, adapter.name)),)
        path = action = links.trial(adapter.owner, adapter.name)
        title = f"Try {adapter.identifier}"
    return TryPage(
        path=path,
        title=title,
        hub=hub,
        crumbs=crumbs,
        template="try.html",
        action=action,
        asked=tuple(asked),
        trial=trial,
        text=text,
        new_tokens=new_tokens,
        outcomes=[outcome_of(result, text) for result in results],
        adapter=adapter,
        error=error,
    )
