"""What visitors put in to try an adapter: a form for each type of head, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapterhub.hub.tryit.jobs import GENERATORS, Limits, TryError, Typed


class Lacking(TryError):
    """Something that the form asks for is missing."""


#: Type of a head -> name of its form.
FORMS = {
    "classification": "text",
    "multilabel_classification": "text",
    "tagging": "text",
    "dependency_parsing": "text",
    "question_answering": "question",
    "multiple_choice": "choice",
    "masked_lm": "blank",
    "causal_lm": "continue",
    "seq2seq_lm": "rewrite",
    "image_classification": "image",
}
#: Forms after which a text is written, so that a length can be asked for.
WRITING = ("continue", "rewrite")
#: How the classes of models are called in the end that read a text and write another.
REWRITERS = ("ForConditionalGeneration",)
_NO_FORM = {
    "audio_classification": "its head reads sound, for which there is no form",
    "ctc": "its head writes down speech, for which there is no form",
}
HEADLESS = "it has no prediction head, so there is nothing to see by itself"


def form_of(facts: Mapping[str, Any], base: Path) -> str:
    """Return the form for an adapter with these facts (of a commit) on a base model in a folder.

    Raises:
        TryError: If there is none, with the reason.
    """
    writes = writing_of(base)
    kind = facts.get("head_type")
    if kind is None and facts.get("format") == "peft":
        if facts.get("task_type") is None and writes:
            return writes
        raise TryError(HEADLESS)
    if kind is None and facts.get("head"):
        if "head_type" in facts:
            raise TryError(no_form(None))
        # Facts of before the type was among them.
        return writes if writes and str(facts.get("model_class")).endswith(GENERATORS) else "text"
    if kind is None:
        if writes:
            return writes
        raise TryError(HEADLESS)
    if kind not in FORMS:
        raise TryError(no_form(kind))
    return FORMS[kind]


def no_form(kind: Any) -> str:
    """Return why there is no form for a type of head."""
    if kind is None:
        return "its files do not say of which type its head is"
    return _NO_FORM.get(
        kind, f"its head is of the type {str(kind)[:60]}, for which there is no form here"
    )


def require(form: str, typed: Typed, limits: Limits) -> None:
    """Refuse what a form lacks.

    Raises:
        Lacking: With what is missing.
    """
    if form == "image":
        if not typed.image:
            raise Lacking("the image is missing; send a PNG or JPEG file")
        return
    if not typed.text.strip():
        raise Lacking("the question is empty" if form == "question" else "the text is empty")
    if form == "question" and not typed.context.strip():
        raise Lacking("the context is empty: the text in which to look for the answer")
    if form == "choice" and len([c for c in typed.choices if c.strip()]) < 2:
        raise Lacking(f"give two to {limits.choices} choices")


@lru_cache(maxsize=64)
def writing_of(base: Path) -> str:
    """Return the form for a base model that writes by itself; ``""`` if the one in a folder does not."""
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        classes = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError, TypeError):
        return ""
    if any(name.endswith(GENERATORS) for name in classes):
        return "continue"
    reads = config.get("is_encoder_decoder") is True and "vocab_size" in config
    if not reads or "num_mel_bins" in config:  # (what hears or sees reads no text)
        return ""
    return "rewrite" if any(name.endswith(REWRITERS) for name in classes) else ""
