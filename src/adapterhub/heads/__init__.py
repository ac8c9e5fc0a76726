"""Prediction heads: what turns the base model's hidden states into logits and a loss.

A head is a small named stack of layers that lives beside the base model, under
``model.heads[name]``, so that one frozen model can serve many tasks. Reading order:
:mod:`~adapterhub.heads.base` (the stack, its configuration, the registry of head types), one file a
family of heads (:mod:`~adapterhub.heads.classification`, :mod:`~adapterhub.heads.image`,
:mod:`~adapterhub.heads.tagging`, :mod:`~adapterhub.heads.question_answering`,
:mod:`~adapterhub.heads.multiple_choice`, :mod:`~adapterhub.heads.language_modeling`,
:mod:`~adapterhub.heads.dependency_parsing`, :mod:`~adapterhub.heads.audio`),
:mod:`~adapterhub.heads.pooling` (which hidden state stands for the whole input),
:mod:`~adapterhub.heads.model` (a model that has heads: adding, choosing, running; its parts are
:mod:`~adapterhub.heads.adding`, :mod:`~adapterhub.heads.running`, :mod:`~adapterhub.heads.weights`,
:mod:`~adapterhub.heads.tying`, :mod:`~adapterhub.heads.generation`) and
:mod:`~adapterhub.heads.static` (which head is the one inside a class of transformers; used by
:mod:`~adapterhub.heads.converting`). A head of your own: subclass :class:`PredictionHead` and
:func:`register_head` it.
"""

from adapterhub.heads.audio import AudioClassificationHead, CTCHead
from adapterhub.heads.base import PredictionHead, head_class, head_types, register_head
from adapterhub.heads.classification import ClassificationHead, MultiLabelClassificationHead
from adapterhub.heads.dependency_parsing import BiaffineParsingHead, DependencyParsingOutput
from adapterhub.heads.image import ImageClassificationHead
from adapterhub.heads.language_modeling import BertStyleMaskedLMHead, CausalLMHead, Seq2SeqLMHead
from adapterhub.heads.model import ModelWithHeads
from adapterhub.heads.multiple_choice import MultipleChoiceHead
from adapterhub.heads.outputs import MultiHeadOutput
from adapterhub.heads.question_answering import QuestionAnsweringHead
from adapterhub.heads.tagging import TaggingHead

__all__ = [
    "AudioClassificationHead",
    "BertStyleMaskedLMHead",
    "BiaffineParsingHead",
    "CTCHead",
    "CausalLMHead",
    "ClassificationHead",
    "DependencyParsingOutput",
    "ImageClassificationHead",
    "ModelWithHeads",
    "MultiHeadOutput",
    "MultiLabelClassificationHead",
    "MultipleChoiceHead",
    "PredictionHead",
    "QuestionAnsweringHead",
    "Seq2SeqLMHead",
    "TaggingHead",
    "head_class",
    "head_types",
    "register_head",
]
