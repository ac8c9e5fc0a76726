"""What the outputs of a head for a job mean, as a record that a page can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from adapterhub.hub.tryit.jobs import TryError
from adapterhub.hub.tryit.rows import Rows, skip_space

_MOST = 10
_LABEL = 80
#: Answers are stretches of so many tokens; the likeliest are shown.
_LONGEST_ANSWER, _ANSWERS = 30, 3
#: Further answers that are less likely than this are not worth a line.
_UNLIKELY = 1e-3
_WORDS = 5

#: What a head gives for one row: name to tensor, without the axis of the batch.
Output = Mapping[str, torch.Tensor]


def classes(rows: Rows, outputs: Sequence[Output], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return the classes by probability; the number itself where there is one output only."""
    logits = outputs[0]["logits"]
    if logits.shape[-1] == 1:
        return {"kind": "regression", "value": _number(logits[0])}
    return _ranked(logits, logits.softmax(-1), labels, several=False)


def independent(rows: Rows, outputs: Sequence[Output], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return each label's own probability, the highest first."""
    logits = outputs[0]["logits"]
    return _ranked(logits, logits.sigmoid(), labels, several=True)


def _ranked(
    logits: torch.Tensor, shares: torch.Tensor, labels: Mapping[int, str], *, several: bool
) -> dict[str, Any]:
    order = shares.argsort(descending=True)[:_MOST].tolist()
    found = [
        {
            "label": _label(labels, index),
            "probability": _number(shares[index]),
            "logit": _number(logits[index]),
        }
        for index in order
    ]
    return {"kind": "classification", "several": several, "labels": found, "of": len(shares)}


def tags(rows: Rows, outputs: Sequence[Output], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return the tag of each word, which is that of its first token."""
    shares = outputs[0]["logits"].softmax(-1)
    found = []
    for start, end, position in rows.words:
        index = int(shares[position].argmax())
        found.append(
            {
                "start": start,
                "end": end,
                "label": _label(labels, index),
                "probability": _number(shares[position, index]),
            }
        )
    return {"kind": "tagging", "words": found}


def answers(rows: Rows, outputs: Sequence[Output], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return the likeliest stretches of the context, each among all that are short enough.

    Where rows begin with a token of their own, as BERT's do, its score is that of "no answer".
    """
    encoding, context = rows.encodings[0].encodings[0], rows.job.context
    start, end = outputs[0]["start_logits"], outputs[0]["end_logits"]
    places = [
        position
        for position, (part, (a, b)) in enumerate(
            zip(encoding.sequence_ids, encoding.offsets, strict=True)
        )
        if part == 1 and a < b
    ]
    if not places:
        raise TryError("nothing of the context is left beside the question")
    index = torch.tensor(places)
    scores = start[index][:, None] + end[index][None, :]
    length = torch.arange(len(places))[None, :] - torch.arange(len(places))[:, None]
    scores = scores.masked_fill((length < 0) | (length >= _LONGEST_ANSWER), -torch.inf)
    begins_apart = encoding.special_tokens_mask[0] == 1
    none = (start[0] + end[0]).reshape(1) if begins_apart else start.new_empty(0)
    shares = torch.cat([scores.flatten(), none]).softmax(0)
    found: list[dict[str, Any]] = []
    for place in shares[: scores.numel()].argsort(descending=True)[:200].tolist():
        a, b = divmod(place, len(places))
        first = skip_space(context, *encoding.offsets[places[a]])
        last = encoding.offsets[places[b]][1]
        if any(first < item["end"] and item["start"] < last for item in found):
            continue
        share = _number(shares[place])
        if len(found) == _ANSWERS or (found and share < _UNLIKELY):
            break
        found.append(
            {"start": first, "end": last, "text": context[first:last], "probability": share}
        )
    return {
        "kind": "answer",
        "answers": found,
        "none": _number(shares[-1]) if begins_apart else None,
    }


def choices(rows: Rows, outputs: Sequence[Output], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return the share of each choice, in the order in which they were given."""
    logits = torch.stack([output["logits"].flatten()[0] for output in outputs])
    shares = logits.softmax(0)
    given = [choice for choice in rows.job.choices if choice.strip()]
    found = [
        {"label": text, "probability": _number(shares[i]), "logit": _number(logits[i])}
        for i, text in enumerate(given)
    ]
    return {"kind": "choice", "choices": found}


def relations(rows: Rows, outputs: Sequence[Output], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return for each word the likeliest word that it depends on (0: none, it is the root), and how."""
    arcs, kinds = outputs[0]["arc_preds"], outputs[0]["rel_preds"]
    count, found = len(rows.words), []
    for number, (start, end, _) in enumerate(rows.words):
        scores = arcs[number, : count + 1].clone()
        scores[number + 1] = -torch.inf  # no word depends on itself
        shares = scores.softmax(0)
        head = int(shares.argmax())
        found.append(
            {
                "start": start,
                "end": end,
                "text": rows.job.text[start:end],
                "head": head,
                "relation": _label(labels, int(kinds[number, head].argmax())),
                "probability": _number(shares[head]),
            }
        )
    return {"kind": "parse", "words": found}


def fillings(rows: Rows, outputs: Sequence[Output], words: Mapping[int, str]) -> dict[str, Any]:
    """Return the likeliest words for each blank; an output has one position for each blank."""
    found = []
    for number, (start, end, _) in enumerate(rows.blanks):
        shares = outputs[0]["logits"][number].softmax(-1)
        best = shares.topk(min(_WORDS, len(shares)))
        likely = [
            {"label": _printable(words[int(token)].strip()), "probability": _number(share)}
            for share, token in zip(best.values, best.indices, strict=True)
        ]
        found.append({"start": start, "end": end, "words": likely})
    return {"kind": "blanks", "blanks": found}


def _label(labels: Mapping[int, str], index: int) -> str:
    return _printable(str(labels.get(index, index)))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:_LABEL]


def _number(value: torch.Tensor) -> float:
    if not torch.isfinite(value):
        raise TryError("its output is not a finite number")
    return float(value)


readers: dict[str, Callable[[Rows, Sequence[Output], Mapping[int, str]], dict[str, Any]]] = {
    "classification": classes,
    "multilabel_classification": independent,
    "tagging": tags,
    "question_answering": answers,
    "multiple_choice": choices,
    "dependency_parsing": relations,
    "masked_lm": fillings,
    "image_classification": classes,
}
