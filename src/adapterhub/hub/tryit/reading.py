"""What the logits of a row mean, as a record that a page can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from adapterhub.hub.tryit.jobs import TryError

_MOST = 10
_LABEL = 80

#: A word: its place in the text (from, to) and its first position in the row.
Word = tuple[int, int, int]


def classes(
    logits: torch.Tensor, labels: Mapping[int, str], words: Sequence[Word]
) -> dict[str, Any]:
    """Return the classes by probability; the number itself where there is one output only."""
    if logits.shape[-1] == 1:
        return {"kind": "regression", "value": _number(logits[0])}
    return _ranked(logits, logits.softmax(-1), labels, several=False)


def independent(
    logits: torch.Tensor, labels: Mapping[int, str], words: Sequence[Word]
) -> dict[str, Any]:
    """Return each label's own probability, the highest first."""
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


def tags(logits: torch.Tensor, labels: Mapping[int, str], words: Sequence[Word]) -> dict[str, Any]:
    """Return the tag of each word, which is that of its first token."""
    shares = logits.softmax(-1)
    found = []
    for start, end, position in words:
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


def words_of(encoded: Any, row: int, text: str) -> list[Word]:
    """Return the words of a row.

    Raises:
        TryError: If the tokenizer does not say which tokens make a word.
    """
    if not getattr(encoded, "is_fast", False):
        raise TryError("the tokenizer of its base model does not tell words apart")
    encoding = encoded.encodings[row]
    words: dict[int, Word] = {}
    for position, (word, (start, end)) in enumerate(
        zip(encoding.word_ids, encoding.offsets, strict=True)
    ):
        if word is None or start == end:
            continue
        known = words.get(word)
        words[word] = (known[0], end, known[2]) if known else (start, end, position)
    return [(_skip_space(text, start, end), end, at) for start, end, at in words.values()]


def _skip_space(text: str, start: int, end: int) -> int:
    """Tokenizers of byte pairs count the space before a word as part of it."""
    while start < end - 1 and text[start].isspace():
        start += 1
    return start


def _label(labels: Mapping[int, str], index: int) -> str:
    text = "".join(c if c.isprintable() else "\ufffd" for c in str(labels.get(index, index)))
    return text[:_LABEL]


def _number(value: torch.Tensor) -> float:
    if not torch.isfinite(value):
        raise TryError("its output is not a finite number")
    return float(value)


readers: dict[str, Callable[..., dict[str, Any]]] = {
    "classification": classes,
    "multilabel_classification": independent,
    "tagging": tags,
}
