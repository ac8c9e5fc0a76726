"""What has no meaning: the library's refusals that are right, each with why. Any other error is a failure.

A pattern is looked for in the error's text. :func:`reason_of` gives the reason's name, for the table.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Reason(NamedTuple):
    """A right refusal."""

    pattern: str
    why: str


REASONS = {
    "chain": Reason(
        r"chain",
        "A Stack of low-rank changes is a chain B2 A2 (B1 A1 x), as in the `adapters` library; "
        "where a projection "
        "is not square, the second has nothing of the right width to read.",
    ),
    "nothing-to-fuse": Reason(
        r"(AdapterFusion mixes outputs|no common place with an output to fuse)",
        "AdapterFusion attends to the outputs of its adapters. Prefixes and prompts have no "
        "output of their own: "
        "they are keys, values or positions that the model's attention mixes already.",
    ),
    "split-prompt": Reason(
        r"Split: a prompt stands before the whole input",
        "A prompt stands before the whole input, so it belongs to no part of it.",
    ),
    "split-inline": Reason(
        r"computes its scores itself, and there a prefix can only be seen by all positions",
        "A Split of prefixes gives each position a mask of its own, which attention modules that do not call "
        "transformers' attention interface have no place for.",
    ),
    "split-step": Reason(
        r"(?<!Batch)Split over .* met an input of",
        "A Split is over the positions of one input; a step of generation has another number of them.",
    ),
    "gate-in-cache": Reason(
        r"a gate is a mean over the positions of a call",
        "A gate is the mean of a sigmoid over the positions of a call (UniPELT, section 3); a "
        "cached step has one "
        "position, so by its definition it gives another number.",
    ),
    "no-place": Reason(
        r"(finds no place|asks for .*\(this model has \[\]\))",
        "The model has no place of the kind that the method changes.",
    ),
    "prompt-patches": Reason(
        r"Prompt tuning before the first block of .* cannot widen its",
        "The mask given is not over positions.",
    ),
    "prompt-gaps": Reason(
        r"Prompts of different length in one batch leave gaps",
        "The model pools its first position and looks at distances between positions as they lie; a gap can "
        "be neither at the front nor between.",
    ),
    "prompt-lengths": Reason(
        r"Prompts of different length in one batch need an attention mask",
        "Prompts of unequal length in one batch are hidden from shorter rows by the attention "
        "mask, and this model "
        "takes none.",
    ),
    "own-positions": Reason(
        r"numbers positions by itself",
        "A shorter prompt is filled up in a batch with a longer one, and the model numbers "
        "positions by counting, "
        "whatever the mask hides.",
    ),
    "fixed-cache": Reason(
        r"is made before that, without room for them",
        "Where the model adds positions inside its embeddings module, prompts go in behind it "
        "(as in `adapters`); "
        "`generate` fixes the size and the masks of a static cache before, from the length without them.",
    ),
    "shared-rows": Reason(
        r"met one row at .* once for all rows",
        "DeBERTa-v2 with share_att_key projects its relative positions with the layers' own "
        "query and key maps, once "
        "for the whole batch, and its code has no place for one result a row.",
    ),
    "local-attention": Reason(
        r"does not call transformers' attention interface, and its scores could not be followed",
        "The attention cuts keys into blocks of neighbours (LongT5); there is no row of scores for a prefix "
        "to join.",
    ),
    "no-softmax": Reason(
        r"has no softmax over keys",
        "There is no attention whose keys and values a prefix could join.",
    ),
}


def reason_of(text: str) -> str | None:
    """Return the name of the reason that an error's text belongs to, ``None`` if it is not in the list."""
    return next((name for name, reason in REASONS.items() if re.search(reason.pattern, text)), None)
