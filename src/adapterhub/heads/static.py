"""The heads inside the task classes of transformers (``BertForSequenceClassification``, …).

Such a class is a base model and a few modules on top, at fixed paths. :data:`TABLE` says, for every
arrangement of these modules, which head of ours computes the same, so that heads move between both
kinds of models without loss. A row holds for all model types that arrange their modules in this way;
where types differ in what cannot be seen in the weights (an activation function, what is pooled), it
names the types. :mod:`~adapterhub.heads.converting` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Ending of a class name -> task; the first that fits.
TASKS = (
    ("ForSequenceClassification", "sequence"),
    ("ForTokenClassification", "token"),
    ("ForQuestionAnswering", "question"),
    ("ForMultipleChoice", "choice"),
    ("ForMaskedLM", "masked"),
    ("ForImageClassification", "image"),
    ("ForAudioClassification", "sequence"),
    ("ForCTC", "ctc"),
    ("ForConditionalGeneration", "text"),
    ("ForCausalLM", "text"),
    ("LMHeadModel", "text"),
    ("GenerationDecoder", "text"),
)

BERT = (
    "albert bert big_bird canine ernie fnet layoutlm luke megatron-bert mobilebert rembert roc_bert "
    "squeezebert"
)
ROBERTA = (
    "camembert data2vec-text ibert roberta roberta-prelayernorm xlm-roberta xlm-roberta-xl xmod"
)
BART = "bart mbart mt5 mvp plbart t5 umt5"
#: Their own head reads the first position of the last hidden state …
FIRST_POSITION = "vit vit_msn deit"
#: … and theirs the pooled output.
POOLED_IMAGE = "beit convnext convnextv2 donut-swin focalnet swin swinv2"


@dataclass(frozen=True)
class StaticHead:
    """One row: modules of a task class, and the head that they are.

    Attributes:
        task: see :data:`TASKS`.
        modules: paths in the order of the head's slots, separated by blanks; ``-`` is a slot without
            parameters.
        head_type: the type of our head.
        options: of its configuration; a value ``"@a"`` is the model configuration's attribute ``a``,
            ``"@a|b"`` its attribute ``a`` or else the value ``b``.
        types: model types the row is for, separated by blanks; ``""``: all.
    """

    task: str
    modules: str
    head_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    types: str = ""

    @property
    def writes(self) -> bool:
        """Whether it scores the vocabulary, so that its last layer may be tied."""
        return self.head_type in ("masked_lm", "causal_lm", "seq2seq_lm")

    @property
    def slots(self) -> dict[str, int]:
        """``{module path: its index in the head}``."""
        return {path: i for i, path in enumerate(self.modules.split()) if path != "-"}


_PLAIN: dict[str, Any] = {"activation_function": None}
_TANH = {"activation_function": "tanh"}
_LM = {"layer_norm": True}
_TWO = "- classifier.dense - - classifier.out_proj"
_NORMED = "- head.dense - head.norm - classifier"
_MODERN = {"activation_function": "@classifier_activation", "layer_norm": True}
_HIDDEN_ACT = {"activation_function": "@hidden_act"}

TABLE: tuple[StaticHead, ...] = (
    # -- the whole input
    StaticHead("sequence", "- classifier", "classification", {**_PLAIN, "use_pooler": True}, BERT),
    StaticHead("sequence", "- classifier", "classification", _PLAIN, "ctrl"),
    StaticHead("sequence", "- score", "classification", {**_PLAIN, "dropout_prob": 0.0}),
    StaticHead("sequence", _TWO, "classification", _TANH, ROBERTA),
    StaticHead("sequence", _TWO, "classification", {"activation_function": "gelu"}, "electra"),
    StaticHead(
        "sequence", _TWO, "classification", _HIDDEN_ACT, "convbert mra nystromformer roformer yoso"
    ),
    StaticHead(
        "sequence",
        "- pooler.dense - - classifier",
        "classification",
        {"activation_function": "@pooler_hidden_act|gelu"},
        "deberta deberta-v2",
    ),
    StaticHead(
        "sequence",
        "- pre_classifier - - classifier",
        "classification",
        {"activation_function": "relu"},
        "distilbert",
    ),
    StaticHead(
        "sequence",
        "- classification_head.dense - - classification_head.out_proj",
        "classification",
        _TANH,
        BART,
    ),
    StaticHead(
        "sequence",
        _NORMED,
        "classification",
        {**_MODERN, "pooling": "@classifier_pooling"},
        "modernbert",
    ),
    StaticHead("sequence", "- projector - classifier", "audio_classification", _PLAIN),
    # -- each token
    StaticHead("token", "- classifier", "tagging", _PLAIN),
    StaticHead("token", "- score", "tagging", _PLAIN),
    StaticHead("token", _NORMED, "tagging", _MODERN, "modernbert"),
    StaticHead(
        "question",
        "- qa_outputs",
        "question_answering",
        {**_PLAIN, "scaled": False},
        "longt5 switch_transformers t5 umt5",
    ),
    StaticHead("question", "- qa_outputs", "question_answering", _PLAIN),
    StaticHead("question", _NORMED, "question_answering", _MODERN, "modernbert"),
    # -- one of several inputs
    StaticHead(
        "choice",
        "- classifier",
        "multiple_choice",
        {**_PLAIN, "use_pooler": True},
        f"{BERT} {ROBERTA}",
    ),
    StaticHead(
        "choice",
        "- pre_classifier - - classifier",
        "multiple_choice",
        {"activation_function": "relu"},
        "distilbert mra nystromformer yoso",
    ),
    StaticHead(
        "choice",
        "- pooler.dense - - classifier",
        "multiple_choice",
        {"activation_function": "@pooler_hidden_act|gelu"},
        "deberta-v2",
    ),
    StaticHead(
        "choice",
        "- sequence_summary.summary - - classifier",
        "multiple_choice",
        {"activation_function": "gelu"},
        "electra",
    ),
    StaticHead(
        "choice",
        _NORMED,
        "multiple_choice",
        {**_MODERN, "pooling": "@classifier_pooling"},
        "modernbert",
    ),
    # -- words
    *(
        StaticHead(task, modules, head_type, {**_LM, **options}, types)
        for task, head_type in (("masked", "masked_lm"), ("text", "causal_lm"))
        for modules, options, types in (
            (
                "cls.predictions.transform.dense - cls.predictions.transform.LayerNorm "
                "cls.predictions.decoder",
                _HIDDEN_ACT,
                "",
            ),
            (
                "cls.predictions.dense - cls.predictions.LayerNorm cls.predictions.decoder",
                _HIDDEN_ACT,
                "",
            ),
            (
                "predictions.dense - predictions.LayerNorm predictions.decoder",
                _HIDDEN_ACT,
                "albert",
            ),
            (
                "lm_head.dense - lm_head.layer_norm lm_head.decoder",
                {"activation_function": "gelu"},
                f"{ROBERTA} mpnet",
            ),
            (
                "generator_predictions.dense - generator_predictions.LayerNorm generator_lm_head",
                {"activation_function": "gelu"},
                "electra convbert",
            ),
            (
                "vocab_transform - vocab_layer_norm vocab_projector",
                {"activation_function": "@activation"},
                "distilbert",
            ),
            ("head.dense - head.norm decoder", _MODERN, "modernbert"),
            ("lm_head.dense - lm_head.norm decoder", _MODERN, "modernbert-decoder"),
        )
    ),
    *(
        StaticHead(task, modules, head_type, _PLAIN, types)
        for task, head_type in (
            ("masked", "masked_lm"),
            ("text", "causal_lm"),
            ("text", "seq2seq_lm"),
        )
        for modules, types in (
            ("lm_head", ""),
            ("lm_head.decoder", "bert-generation"),
            ("lm_head.out_proj", "t5gemma t5gemma2"),
            ("proj_out", ""),
            ("output_projection", ""),
            ("embed_out", ""),
        )
    ),
    # -- images and sound
    StaticHead("image", "- classifier", "image_classification", _PLAIN, FIRST_POSITION),
    StaticHead(
        "image",
        "- classifier",
        "image_classification",
        {**_PLAIN, "use_pooler": True},
        POOLED_IMAGE,
    ),
    StaticHead(
        "image",
        "- classifier.1",
        "image_classification",
        {**_PLAIN, "use_pooler": True},
        "bit regnet resnet",
    ),
    StaticHead("ctc", "- lm_head", "ctc"),
)

#: (task, model type) of classes that run another base model than the one our heads sit on, or that do
#: more than their modules tell.
EXCEPT = {
    ("token", "mt5"),
    ("token", "t5"),
    ("token", "umt5"),
    ("text", "deepseek_v4"),
    ("text", "inkling2_text"),
    ("text", "inkling_text"),
    ("text", "prophetnet"),
}
#: A bias of the vocabulary that some classes add after their last layer.
LOGITS_BIAS = "final_logits_bias"


def task_of(class_name: str) -> str | None:
    """Return the task of a class of transformers by its name, or ``None``."""
    return next((task for ending, task in TASKS if class_name.endswith(ending)), None)


def find_row(class_name: str, config: Any, shapes: Mapping[str, Any]) -> StaticHead | None:
    """Return the row of :data:`TABLE` for a task class, or ``None``.

    Args:
        class_name: e.g. ``"BertForSequenceClassification"``.
        config: the configuration of its model.
        shapes: ``{parameter name: shape}`` of everything outside of the base model.
    """
    task, model_type = task_of(class_name), config.model_type
    if task is None or (task, model_type) in EXCEPT:
        return None
    paths = {name.rpartition(".")[0] for name in shapes if name != LOGITS_BIAS}
    for row in TABLE:
        if row.task != task or (row.types and model_type not in row.types.split()):
            continue
        if task == "text" and (row.head_type == "seq2seq_lm") != _encodes(config):
            continue
        last = row.modules.split()[-1]
        beside = {last.rpartition(".")[0]} - {""}  # may hold the last layer's bias
        lacking = set(row.slots) - paths
        if paths <= set(row.slots) | beside and lacking <= ({last} if row.writes else set()):
            return row
    return None


def _encodes(config: Any) -> bool:
    return bool(getattr(config, "is_encoder_decoder", False))
