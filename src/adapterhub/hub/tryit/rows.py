"""From what was typed to rows of a batch: one row for each job, of choices one for each choice.

Rows of all kinds share a batch, as each goes its own way through the model anyhow: a question with its
context is two segments of one row, and a choice is a row of its own, as if it were the only one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from adapterhub.hub.tryit.forms import FORMS, require
from adapterhub.hub.tryit.jobs import Job, Limits, TryError, Typed

#: What stands for a missing word, beside the tokenizer's own mark.
_BLANK = re.compile(r"_{2,}|\[MASK\]|<mask>")
_MOST_BLANKS = 4

#: A word: its place in the text (from, to) and its first position in the row.
Word = tuple[int, int, int]


@dataclass
class Rows:
    """What a job takes of a batch.

    Attributes:
        job: whose rows they are. kind: type of its head.
        encodings: one a row, without padding.
        cut: whether something was too long.
        words: of the text, for what is said of words.
        blanks: place in the text (from, to) and position in the row of each missing word.
        first: number of the first row in the batch.
    """

    job: Job
    kind: str
    encodings: list[Any]
    cut: bool
    words: list[Word] = field(default_factory=list)
    blanks: list[Word] = field(default_factory=list)
    first: int = 0


def rows_for(job: Job, kind: str, tokenizer: Any, limits: Limits, longest: int) -> Rows:
    """Encode a job for a head of a type.

    Args:
        longest: positions that a row may have.

    Raises:
        TryError: If something is missing or cannot be encoded.
    """
    require(
        FORMS[kind], Typed(job.text, job.context, job.choices, b"?" if job.image else b""), limits
    )
    if kind == "question_answering":
        return _question(job, kind, tokenizer, longest)
    if kind == "multiple_choice":
        pairs = [(job.text, choice) for choice in job.choices if choice.strip()]
        encoded = [tokenizer(*pair, truncation=True, max_length=longest) for pair in pairs]
        each = zip(encoded, pairs, strict=True)
        cut = any(_is_cut(one, tokenizer, pair, longest) for one, pair in each)
        return Rows(job, kind, encoded, cut)
    if kind == "masked_lm":
        return _blanks(job, kind, tokenizer, longest)
    made = Rows(job, kind, *_one(job.text, tokenizer, longest))
    if kind in ("tagging", "dependency_parsing"):
        made.words = words_of(made.encodings[0], job.text)
    return made


def _one(text: str, tokenizer: Any, longest: int) -> tuple[list[Any], bool]:
    encoded = tokenizer(text, truncation=True, max_length=longest)
    return [encoded], _is_cut(encoded, tokenizer, (text,), longest)


def _is_cut(encoded: Any, tokenizer: Any, texts: tuple[str, ...], longest: int) -> bool:
    """Whether something of the texts of a row is not in it."""
    full = len(encoded["input_ids"]) >= longest
    return full and len(tokenizer(*texts, verbose=False)["input_ids"]) > longest


def _question(job: Job, kind: str, tokenizer: Any, longest: int) -> Rows:
    if not tokenizer.is_fast:
        raise TryError("the tokenizer of its base model does not tell where tokens come from")
    if len(tokenizer(job.text, verbose=False)["input_ids"]) > longest // 2:
        raise TryError("the question is too long for the model")
    encoded = tokenizer(job.text, job.context, truncation="only_second", max_length=longest)
    cut = _is_cut(encoded, tokenizer, (job.text, job.context), longest)
    return Rows(job, kind, [encoded], cut)


def _blanks(job: Job, kind: str, tokenizer: Any, longest: int) -> Rows:
    mark = tokenizer.mask_token
    if mark is None:
        raise TryError("the tokenizer of its base model has no mark for a missing word")
    places = [match.span() for match in _BLANK.finditer(job.text)]
    if not 1 <= len(places) <= _MOST_BLANKS:
        raise TryError(
            f"put ___ where a word is missing (one to {_MOST_BLANKS} times; found {len(places)})"
        )
    encoded, cut = _one(_BLANK.sub(lambda _: mark, job.text), tokenizer, longest)
    ids = encoded[0]["input_ids"]
    at = [number for number, token in enumerate(ids) if token == tokenizer.mask_token_id]
    # (Of a text that was cut the last blanks may be gone.)
    blanks = [(start, end, position) for (start, end), position in zip(places, at, strict=False)]
    if not blanks:
        raise TryError("the blank is too far behind for the model")
    return Rows(job, kind, encoded, cut, blanks=blanks)


def words_of(encoded: Any, text: str) -> list[Word]:
    """Return the words of a row.

    Raises:
        TryError: If the tokenizer does not say which tokens make a word.
    """
    if not getattr(encoded, "is_fast", False):
        raise TryError("the tokenizer of its base model does not tell words apart")
    encoding = encoded.encodings[0]
    words: dict[int, Word] = {}
    for position, (word, (start, end)) in enumerate(
        zip(encoding.word_ids, encoding.offsets, strict=True)
    ):
        if word is None or start == end:
            continue
        known = words.get(word)
        words[word] = (known[0], end, known[2]) if known else (start, end, position)
    return [(skip_space(text, start, end), end, at) for start, end, at in words.values()]


def skip_space(text: str, start: int, end: int) -> int:
    """Return where a stretch begins without blanks: tokens of byte pairs hold the one before them."""
    while start < end - 1 and text[start].isspace():
        start += 1
    return start


def batch_of(rows: Sequence[Rows], tokenizer: Any) -> dict[str, Any]:
    """Return the inputs of a model with heads for all rows, and number them."""
    encodings, number = [], 0
    for part in rows:
        part.first = number
        number += len(part.encodings)
        encodings += part.encodings
    keys = encodings[0].keys()
    listed = {key: [list(one[key]) for one in encodings] for key in keys}
    padded = tokenizer.pad(listed, padding=True, return_tensors="pt")
    inputs: dict[str, Any] = {key: padded[key] for key in keys}
    kinds = {part.kind for part in rows}
    if "multiple_choice" in kinds:  # each row as an example of a single choice
        inputs = {key: value.unsqueeze(1) for key, value in inputs.items()}
    if "dependency_parsing" in kinds:
        inputs["word_starts"] = _word_starts(rows, number)
    if "masked_lm" in kinds:
        # The vocabulary is large: scores are needed where words are missing only.
        inputs["logits_to_keep"] = torch.tensor(kept_positions(rows))
    return inputs


def kept_positions(rows: Sequence[Rows]) -> list[int]:
    """Return the positions at which words are missing in any of the rows."""
    return sorted({position for part in rows for _, _, position in part.blanks})


def _word_starts(rows: Sequence[Rows], number: int) -> torch.Tensor:
    """Return where the words of each row begin and the last one ends; zeros where there are none."""
    longest = max(len(part.words) for part in rows if part.kind == "dependency_parsing")
    starts = torch.zeros(number, longest + 1, dtype=torch.int64)
    for part in rows:
        if part.kind != "dependency_parsing" or not part.words:
            continue
        ids = part.encodings[0].encodings[0].word_ids
        end = max(at for at, word in enumerate(ids) if word is not None) + 1
        places = [position for _, _, position in part.words] + [end]
        starts[part.first, : len(places)] = torch.tensor(places)
    return starts
