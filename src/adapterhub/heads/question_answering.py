"""The head that finds the answer to a question as a span of the input."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_outputs import (
    QuestionAnsweringModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
)
from transformers.utils.generic import ModelOutput

from adapterhub.heads.base import Labels, PredictionHead, label2id, register_head
from adapterhub.heads.losses import span_loss
from adapterhub.heads.outputs import fill


class QuestionAnsweringHead(PredictionHead):
    """Scores of each position for being the first and the last of the answer.

    Args:
        model: the model it is for.
        head_name: its name.
        num_labels: outputs a position; the first two are used. Default 2.
        layers: linear layers. Default 1.
        activation_function: between the layers, or ``None``. Default ``"tanh"``.
        id2label: names of the outputs; default LABEL_0, LABEL_1.
        dropout_prob: before each layer; default: the model's.

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "question_answering"
    targets = ("start_positions", "end_positions")

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
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """Return ``start_logits``, ``end_logits`` (batch, length) and, with positions (batch,), the
        ``loss``.

        Positions outside of the input do not count.
        """
        logits = self.stack(outputs[0])
        start, end = logits[..., 0].contiguous(), logits[..., 1].contiguous()
        kind = (
            Seq2SeqQuestionAnsweringModelOutput
            if "encoder_last_hidden_state" in outputs
            else QuestionAnsweringModelOutput
        )
        loss = span_loss(start, end, start_positions, end_positions)
        return fill(kind, outputs, loss=loss, start_logits=start, end_logits=end)


register_head(QuestionAnsweringHead.head_type, QuestionAnsweringHead)
