"""The head that classifies images."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_outputs import ImageClassifierOutput

from adapterhub.heads.base import Labels, PredictionHead, label2id, register_head
from adapterhub.heads.losses import classification_loss, multilabel_loss
from adapterhub.heads.outputs import fill


class ImageClassificationHead(PredictionHead):
    """Classes of an image: one, several (``multilabel``), or a number (``num_labels`` 1).

    Args:
        model: the model it is for.
        head_name: its name.
        num_labels: classes; 1: regression. Default 2.
        layers: linear layers. Default 2.
        activation_function: between the layers, or ``None``. Default ``"tanh"``.
        multilabel: labels do not exclude each other. Default False.
        id2label: ``{id: label}`` or a list; default LABEL_0, ….
        use_pooler: take the base model's pooled output instead of its first position. Default
            False.
        bias: whether the last layer has one. Default True.
        dropout_prob: before each layer; default: the model's.

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "image_classification"
    pooled = True

    def __init__(
        self,
        model: Any,
        head_name: str,
        num_labels: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        multilabel: bool = False,
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
            "multilabel": multilabel,
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
    ) -> ImageClassifierOutput:
        """Return ``logits`` (batch, num_labels) and, with *labels*, the ``loss``.

        Labels are (batch,), or (batch, num_labels) for ``multilabel``.
        """
        assert cls_output is not None
        logits = self.stack(cls_output)
        if self.config["multilabel"]:
            loss = multilabel_loss(logits, labels)
        else:
            loss = classification_loss(logits, labels, self.config["num_labels"])
        return fill(ImageClassifierOutput, outputs, loss=loss, logits=logits)


register_head(ImageClassificationHead.head_type, ImageClassificationHead)
