"""Heads that give the whole input one label, several labels or a number."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_outputs import Seq2SeqSequenceClassifierOutput, SequenceClassifierOutput
from transformers.utils.generic import ModelOutput

from adapterhub.heads.base import Labels, PredictionHead, label2id, register_head
from adapterhub.heads.losses import classification_loss, multilabel_loss
from adapterhub.heads.outputs import fill


class ClassificationHead(PredictionHead):
    """One of ``num_labels`` classes; a number (regression) when ``num_labels`` is 1.

    Args:
        model: the model it is for.
        head_name: its name.
        num_labels: classes; 1: regression with the mean squared error. Default 2.
        layers: linear layers. Default 2.
        activation_function: between the layers, or ``None``. Default ``"tanh"``.
        id2label: ``{id: label}`` or a list of labels; default LABEL_0, LABEL_1, ….
        use_pooler: take the base model's pooled output. Default False; see
            :mod:`~adapterhub.heads.pooling` for what is taken then.
        bias: whether the last layer has one. Default True.
        dropout_prob: before each layer; default: the model's ``classifier_dropout``, else its
            ``hidden_dropout_prob``, else 0.

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "classification"
    pooled = True

    def __init__(
        self,
        model: Any,
        head_name: str,
        num_labels: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        id2label: Labels = None,
        use_pooler: bool = False,
        bias: bool = True,
        dropout_prob: float | None = None,
        **rare: Any,
    ) -> None:
        super().__init__(head_name)
        self.config = {
            "head_type": self.head_type,
            "num_labels": num_labels,
            "layers": layers,
            "activation_function": activation_function,
            "label2id": label2id(id2label, num_labels),
            "use_pooler": use_pooler,
            "bias": bias,
            "dropout_prob": dropout_prob,
        }
        self.add_rare(rare)
        self.build(model)

    def forward(
        self,
        outputs: Any,
        cls_output: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = True,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """Return ``logits`` (batch, num_labels) and, with *labels*, the ``loss``."""
        assert cls_output is not None
        logits = self.stack(cls_output)
        kind = (
            Seq2SeqSequenceClassifierOutput
            if "encoder_last_hidden_state" in outputs
            else SequenceClassifierOutput
        )
        return fill(kind, outputs, loss=self.loss(logits, labels), logits=logits)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
        """Cross-entropy, or the mean squared error for ``num_labels`` 1; labels (batch,)."""
        return classification_loss(logits, labels, self.config["num_labels"])


class MultiLabelClassificationHead(ClassificationHead):
    """Any number of ``num_labels`` labels, each judged on its own; arguments as above."""

    head_type = "multilabel_classification"

    def loss(self, logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
        """Mean binary cross-entropy; labels (batch, num_labels), 0 or 1 in any number type."""
        return multilabel_loss(logits, labels)


register_head(ClassificationHead.head_type, ClassificationHead)
register_head(MultiLabelClassificationHead.head_type, MultiLabelClassificationHead)
