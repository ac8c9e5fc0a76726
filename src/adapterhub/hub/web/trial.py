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
class Blank:
    """A word that was missing, and the words that are likely there, best first; *number* from 1."""

    number: int
    shares: Sequence[Share]
    best: int = 0
    several: bool = False


@dataclass(frozen=True)
class Dependency:
    """A word, the word that it depends on (``None``: it is the root), and how."""

    word: str
    head: str | None
    relation: str
    probability: float
    number: int
    head_number: int


@dataclass(frozen=True)
class Asked:
    """What was typed, to fill the form again; an image is not kept."""

    text: str = ""
    context: str = ""
    choices: Sequence[str] = ()
    new_tokens: int = 32


@dataclass(frozen=True)
class Outcome:
    """What one adapter made of what was typed.

    Attributes:
        identifier: ``@owner/name``.
        kind: ``classification``, ``regression``, ``tagging``, ``generation``, ``answer``, ``choice``,
            ``blanks``, ``parse``, or empty with an *error*.
        shares: of labels, answers or choices; *several*: they are independent of each other.
        best: number of the likeliest share.
        others: how many labels are not shown.
        pieces: the text (or context) with what is marked in it.
        continues: whether a generated text goes on with what was typed.
        none: probability that there is no answer; ``None``: not known.
        cut: whether the text was too long for the model.
        rows, adapters: of the batch in which it was computed.
    """

    identifier: str
    kind: str = ""
    shares: Sequence[Share] = ()
    several: bool = False
    best: int = 0
    others: int = 0
    value: float | None = None
    pieces: Sequence[Piece] = ()
    blanks: Sequence[Blank] = ()
    dependencies: Sequence[Dependency] = ()
    text: str = ""
    continues: bool = True
    none: float | None = None
    cut: bool = False
    rows: int = 1
    adapters: int = 1
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TryPage(Page):
    """What was typed, and what one adapter (or several side by side) made of it.

    Attributes:
        action: address to which the form goes.
        asked: identifiers of the adapters.
        typed: what was in the form.
        adapter: the one that it is about, if it is one.
        error: why there is no outcome.
    """

    has_twin: ClassVar[bool] = False
    action: str
    asked: Sequence[str]
    trial: Trial | None
    typed: Asked
    outcomes: Sequence[Outcome] = ()
    adapter: Adapter | None = None
    error: str = ""


def outcome_of(result: Mapping[str, Any], typed: Asked) -> Outcome:
    """Return the record of a result of :meth:`~adapterhub.hub.server.tryit_jobs.TryIt.run`."""
    name = "@" + str(result["adapter"]).removeprefix("@")
    if "error" in result:
        return Outcome(name, error=str(result["error"]))
    kind = result["kind"]
    labels = result.get("labels", ()) or result.get("choices", ())
    shares = [Share(item["label"], item["probability"]) for item in labels]
    pieces, dependencies = [], []
    if kind == "tagging":
        pieces = pieces_of(result["words"], typed.text)
    elif kind == "answer":
        found = result["answers"]
        shares = [Share(item["text"], item["probability"]) for item in found]
        if result["none"] is not None:
            shares = sorted([*shares, Share("", result["none"])], key=lambda s: -s.probability)
        best = found[:1] if not shares or shares[0].label else []
        pieces = marked(typed.context, [(i["start"], i["end"], i["text"]) for i in best], "answer")
    elif kind == "blanks":
        filled = [(b["start"], b["end"], b["words"][0]["label"]) for b in result["blanks"]]
        pieces = marked(typed.text, filled)
    elif kind == "parse":
        dependencies = dependencies_of(result["words"])
    return Outcome(
        identifier=name,
        kind=kind,
        shares=shares,
        several=result.get("several", False),
        best=max(range(len(shares)), key=lambda n: shares[n].probability, default=0),
        others=max(0, result.get("of", 0) - len(labels)),
        value=result.get("value"),
        pieces=pieces,
        blanks=[
            Blank(n, [Share(w["label"], w["probability"]) for w in blank["words"]])
            for n, blank in enumerate(result.get("blanks", ()), 1)
        ],
        dependencies=dependencies,
        text=result.get("text", ""),
        continues=result.get("continues", True),
        none=result.get("none"),
        cut=result["cut"],
        rows=result["batch"]["rows"],
        adapters=result["batch"]["adapters"],
    )


def marked(text: str, places: Sequence[tuple[int, int, str]], label: str = "") -> list[Piece]:
    """Return a text in pieces, with what is at some places (from, to) marked, and shown as given.

    Args:
        label: of all of them; default: their numbers, if there are several.
    """
    pieces, at = [], 0
    for number, (start, end, shown) in enumerate(sorted(places), 1):
        pieces += [Piece(text[at:start])] if start > at else []
        name = label or (str(number) if len(places) > 1 else "filled in")
        pieces.append(Piece(shown, name, min(number, COLOURS)))
        at = end
    return [*pieces, Piece(text[at:])] if text[at:] else pieces


def dependencies_of(words: Sequence[Mapping[str, Any]]) -> list[Dependency]:
    """Return the relations of words; their heads are numbered from 1, 0 is the root."""
    return [
        Dependency(
            word["text"],
            words[word["head"] - 1]["text"] if word["head"] else None,
            word["relation"],
            word["probability"],
            number,
            word["head"],
        )
        for number, word in enumerate(words, 1)
    ]


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
    typed: Asked,
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
        typed=typed,
        outcomes=[outcome_of(result, typed) for result in results],
        adapter=adapter,
        error=error,
    )
