"""Heads on sequences of sound frames: classification, and transcription by CTC."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput

from adapterhub.errors import ConfigError
from adapterhub.heads.base import (
    Activation,
    Labels,
    PredictionHead,
    dropout_of,
    hidden_size,
    label2id,
    register_head,
)
from adapterhub.heads.language_modeling import vocabulary_size
from adapterhub.heads.losses import classification_loss
from adapterhub.heads.outputs import fill


class AudioClassificationHead(PredictionHead):
    """One of ``num_labels`` classes of a recording; a number when ``num_labels`` is 1.

    The hidden layers work on each frame, the last one on the mean of the frames that are not
    padding. With an encoder-decoder (Whisper) the frames are the encoder's.

    Args:
        model: the model it is for.
        head_name: its name.
        num_labels: classes; 1: regression. Default 2.
        layers: linear layers. Default 2.
        activation_function: between the layers, or ``None`` (default).
        id2label: ``{id: label}`` or a list; default LABEL_0, ….
        projection_size: width of the hidden layers; default: the model's ``classifier_proj_size``,
            else its hidden size.
        dropout_prob: before each layer; default: the model's.

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "audio_classification"
    extras = ("base_model",)

    def __init__(
        self,
        model: Any,
        head_name: str,
        num_labels: int = 2,
        layers: int = 2,
        activation_function: str | None = None,
        id2label: Labels = None,
        projection_size: int | None = None,
        dropout_prob: float | None = None,
    ) -> None:
        super().__init__(head_name)
        if projection_size is None:
            own = getattr(model.config, "classifier_proj_size", None)
            projection_size = own if isinstance(own, int) else hidden_size(model.config)
        self.config = {
            "head_type": self.head_type,
            "num_labels": num_labels,
            "layers": layers,
            "activation_function": activation_function,
            "label2id": label2id(id2label, num_labels),
            "projection_size": projection_size,
            "dropout_prob": dropout_prob,
        }
        self.build(model)

    def build(self, model: Any) -> None:
        """Make the layers, as :meth:`PredictionHead.build`, with hidden ones of their own width."""
        config = self.config
        for label in ("layers", "num_labels", "projection_size"):
            number = config[label]
            if not isinstance(number, int) or number < 1:
                raise ConfigError(
                    f"head '{self.name}': {label} must be a positive integer, not {number!r}."
                )
        width, dropout = hidden_size(model.config), dropout_of(config, model.config)
        for _ in range(config["layers"] - 1):
            self.append(nn.Dropout(dropout))
            self.append(nn.Linear(width, config["projection_size"]))
            width = config["projection_size"]
            if config["activation_function"]:
                self.append(Activation(config["activation_function"]))
        self.append(nn.Dropout(dropout))
        self.append(nn.Linear(width, config["num_labels"]))
        with torch.no_grad():
            self.apply(model._init_weights)

    def forward(
        self,
        outputs: Any,
        cls_output: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = True,
        labels: torch.Tensor | None = None,
        base_model: Any = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return ``logits`` (batch, num_labels) and, with *labels* (batch,), the ``loss``."""
        features = frames(outputs)
        for layer in list(self)[:-2]:
            features = layer(features)
        mask = frame_mask(base_model, features, attention_mask)
        if mask is None:
            mean = features.mean(dim=1)
        else:
            counted = mask[..., None].to(features.dtype)
            mean = (features * counted).sum(dim=1) / counted.sum(dim=1)
        logits = self[-1](self[-2](mean))
        loss = classification_loss(logits, labels, self.config["num_labels"])
        return fill(SequenceClassifierOutput, outputs, loss=loss, logits=logits)


class CTCHead(PredictionHead):
    """A token, or the blank, for each frame (connectionist temporal classification, Graves 2006).

    Args:
        model: the model it is for.
        head_name: its name.
        vocab_size: default: the model's.
        blank_token_id: the blank; default: the model's padding token.
        dropout_prob: before the layer; default: the model's ``final_dropout``.

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "ctc"
    extras = ("base_model",)

    def __init__(
        self,
        model: Any,
        head_name: str,
        vocab_size: int | None = None,
        blank_token_id: int | None = None,
        id2label: Labels = None,
        dropout_prob: float | None = None,
    ) -> None:
        super().__init__(head_name)
        if blank_token_id is None:
            blank_token_id = getattr(model.config, "pad_token_id", None) or 0
        self.config = {
            "head_type": self.head_type,
            "vocab_size": vocabulary_size(model.config) if vocab_size is None else vocab_size,
            "blank_token_id": blank_token_id,
            "label2id": None,
            "dropout_prob": dropout_prob,
        }
        self.build(model)

    def build(self, model: Any) -> None:
        """Make dropout and the one linear layer."""
        config = self.config
        count = config["vocab_size"]
        if not isinstance(count, int) or count < 1:
            raise ConfigError(
                f"head '{self.name}': vocab_size must be a positive integer, not {count!r}."
            )
        probability = config["dropout_prob"]
        if probability is None:
            probability = getattr(model.config, "final_dropout", None)
        self.append(
            nn.Dropout(dropout_of(config, model.config) if probability is None else probability)
        )
        self.append(nn.Linear(output_size(model.config), count))
        self.reduction = getattr(model.config, "ctc_loss_reduction", "mean")
        self.zero_infinity = bool(getattr(model.config, "ctc_zero_infinity", False))
        with torch.no_grad():
            self.apply(model._init_weights)

    def forward(
        self,
        outputs: Any,
        cls_output: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = True,
        labels: torch.Tensor | None = None,
        base_model: Any = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Return ``logits`` (batch, frames, vocab_size) and, with *labels*, the ``loss``.

        Args:
            labels: (batch, tokens); negative values are padding.
        """
        features = frames(outputs)
        logits = self.stack(features)
        loss = None
        if labels is not None:
            mask = frame_mask(base_model, features, attention_mask)
            lengths = features.new_full((features.shape[0],), features.shape[1], dtype=torch.long)
            if mask is not None:
                lengths = mask.sum(-1).to(torch.long)
            real = labels >= 0
            with torch.backends.cudnn.flags(enabled=False):  # (which lacks some cases)
                loss = F.ctc_loss(
                    F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1),
                    labels.masked_select(real),
                    lengths,
                    real.sum(-1),
                    blank=self.config["blank_token_id"],
                    reduction=self.reduction,
                    zero_infinity=self.zero_infinity,
                )
        return fill(CausalLMOutput, outputs, loss=loss, logits=logits)


def output_size(config: Any) -> int:
    """Return the width of a sound model's frames, after its own adapter layers if it has them."""
    size = getattr(config, "output_hidden_size", None)
    if getattr(config, "add_adapter", False) and isinstance(size, int):
        return size
    return hidden_size(config)


def frames(outputs: Any) -> torch.Tensor:
    """Return the states of the sound's frames, (batch, frames, hidden)."""
    encoded = outputs.get("encoder_last_hidden_state")
    return outputs[0] if encoded is None else encoded


def frame_mask(
    base_model: Any, features: torch.Tensor, attention_mask: torch.Tensor | None
) -> torch.Tensor | None:
    """Return (batch, frames), true for frames that are not padding; ``None``: all are real.

    Args:
        base_model: knows how many samples make a frame (``_get_feature_vector_attention_mask``).
        attention_mask: (batch, samples or frames), 0 for padding.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape[1] == features.shape[1]:
        return attention_mask.bool()
    convert = getattr(base_model, "_get_feature_vector_attention_mask", None)
    return None if convert is None else convert(features.shape[1], attention_mask).bool()


register_head(AudioClassificationHead.head_type, AudioClassificationHead)
register_head(CTCHead.head_type, CTCHead)
