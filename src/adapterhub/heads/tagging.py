"""The head that labels every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_outputs import TokenClassifierOutput

from adapterhub.heads.base import Labels, PredictionHead, label2id, register_head
from adapterhub.heads.losses import token_loss
from adapterhub.heads.outputs import fill


class TaggingHead(PredictionHead):
    """One of ``num_labels`` classes for each token.

    Args:
        model: the model it is for.
        head_name: its name.
        num_labels: classes. Default 2.
        layers: linear layers. Default 1.
        activation_function: between the layers, or ``None``. Default ``"tanh"``.
        id2label: ``{id: label}`` or a list; default LABEL_0, ….
        dropout_prob: before each layer; default: the model's.

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "tagging"

    def __init__(
        self,
        model: Any,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        id2label: Labels = None,
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
    ) -> TokenClassifierOutput:
        """Return ``logits`` (batch, length, num_labels) and, with *labels* (batch, length), the
        ``loss``.

        Padding and labels of -100 do not count.
        """
        logits = self.stack(outputs[0])
        return fill(
            TokenClassifierOutput,
            outputs,
            loss=token_loss(logits, labels, attention_mask),
            logits=logits,
        )


register_head(TaggingHead.head_type, TaggingHead)
