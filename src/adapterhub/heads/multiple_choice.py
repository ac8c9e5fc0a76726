"""The head that picks one of several candidate inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from transformers.modeling_outputs import MultipleChoiceModelOutput

from adapterhub.heads.base import Labels, PredictionHead, label2id, register_head
from adapterhub.heads.outputs import fill


class MultipleChoiceHead(PredictionHead):
    """A score for each of ``num_choices`` candidates, given as inputs of (batch, choices, length).

    Args:
        model: the model it is for.
        head_name: its name.
        num_choices: candidates an example, where the inputs' shape does not tell. Default 2.
        layers: linear layers. Default 2.
        activation_function: between the layers, or ``None``. Default ``"tanh"``.
        id2label: names of the choices; default LABEL_0, ….
        use_pooler: take the base model's pooled output. Default False.
        dropout_prob: before each layer; default: the model's.

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "multiple_choice"
    pooled = True
    has_choices = True
    extras = ("choices",)

    def __init__(
        self,
        model: Any,
        head_name: str,
        num_choices: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        id2label: Labels = None,
        use_pooler: bool = False,
        dropout_prob: float | None = None,
        **rare: Any,
    ) -> None:
        super().__init__(head_name)
        self.config = {
            "head_type": self.head_type,
            "num_choices": num_choices,
            "layers": layers,
            "activation_function": activation_function,
            "label2id": label2id(id2label, num_choices),
            "use_pooler": use_pooler,
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
        choices: int | None = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Return ``logits`` (batch, num_choices) and, with *labels* (batch,), the ``loss``.

        Args:
            choices: how many the inputs have, where their shape tells; may differ from
                ``num_choices``.
        """
        assert cls_output is not None
        logits = self.stack(cls_output).view(-1, choices or self.config["num_choices"])
        loss = None if labels is None else F.cross_entropy(logits, labels.view(-1))
        return fill(MultipleChoiceModelOutput, outputs, loss=loss, logits=logits)


register_head(MultipleChoiceHead.head_type, MultipleChoiceHead)
