"""Of which type the prediction head of an adapter is, from its configuration files alone.

The types are those of :mod:`adapterhub.heads`; the names of classes of transformers and the task types of
PEFT tell the type of a head that has no configuration of its own. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Ending of the name of a class of transformers -> type of the head inside.
CLASSES = (
    ("ForSequenceClassification", "classification"),
    ("ForTokenClassification", "tagging"),
    ("ForQuestionAnswering", "question_answering"),
    ("ForMultipleChoice", "multiple_choice"),
    ("ForMaskedLM", "masked_lm"),
    ("ForCausalLM", "causal_lm"),
    ("LMHeadModel", "causal_lm"),
    ("ForConditionalGeneration", "seq2seq_lm"),
    ("ForImageClassification", "image_classification"),
    ("ForAudioClassification", "audio_classification"),
    ("ForCTC", "ctc"),
)
#: Task type of PEFT -> type of the head.
TASK_TYPES = {
    "SEQ_CLS": "classification",
    "TOKEN_CLS": "tagging",
    "QUESTION_ANS": "question_answering",
    "CAUSAL_LM": "causal_lm",
    "SEQ_2_SEQ_LM": "seq2seq_lm",
}


def head_type(info: Mapping[str, Any], head: Mapping[str, Any] | None) -> str | None:
    """Return the type of an adapter's head; ``None`` if it has none, or the files do not tell.

    Args:
        info: ``adapter_config.json``.
        head: ``head_config.json``, if there is one.
    """
    if "peft_type" in info:
        return TASK_TYPES.get(str(info.get("task_type")))
    if head is None:
        return None
    config = head.get("config")
    if isinstance(config, Mapping):
        kind = config.get("head_type")
        return kind[:60] if isinstance(kind, str) else None
    return of_class(head.get("model_class") or info.get("model_class"))


def of_class(name: Any) -> str | None:
    """Return the type of the head inside a class of transformers, by its name."""
    return next((kind for ending, kind in CLASSES if str(name).endswith(ending)), None)
