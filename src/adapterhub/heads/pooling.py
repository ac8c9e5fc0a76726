"""Which hidden state stands for the whole input, the input of classification heads.

========================  =====================================================================
``use_pooler``, or BEiT    the base model's pooled output
encoder-decoder           the decoder's state at the input's last ``<eos>``
decoder only              the state of the last token that is not padding, on whichever side that is
else                      the first position (``[CLS]``)
========================  =====================================================================

A head may ask for one of these, or for the mean of all tokens that are not padding, by its option
``pooling``.

For right padding these are the rules of transformers' ``...ForSequenceClassification`` models and
of the ``adapters`` library, whose heads therefore work here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from adapterhub.errors import ArchitectureError

#: Model types that transformers lists with causal but not with masked language models, and that are
#: nevertheless encoders unless ``config.is_decoder`` is set.
ENCODERS = frozenset({"bert-generation"})
#: Model types whose heads take the pooled output unless told otherwise.
POOLER_BY_DEFAULT = frozenset({"albert", "beit"})
#: Model types whose heads take it in any case.
ALWAYS_POOLED = frozenset({"beit"})
#: Model types whose decoder states are multiplied by ``d_model ** -0.5`` where embeddings are tied,
#: before heads that look at every position.
SCALED_WHEN_TIED = frozenset({"longt5", "switch_transformers", "t5", "umt5"})


def pooling_rule(config: Any) -> str:
    """Return ``"pooler"``, ``"eos"``, ``"last"`` or ``"first"`` for a model's configuration."""
    from transformers.models.auto import modeling_auto as auto

    if config.model_type in ALWAYS_POOLED:
        return "pooler"
    if getattr(config, "is_encoder_decoder", False):
        return "eos"
    if getattr(config, "is_decoder", False):
        return "last"
    causal = set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    types = {config.model_type, config.get_text_config().model_type} - ENCODERS
    return "last" if types & causal else "first"


def token_scale(config: Any) -> float:
    """Return the factor on hidden states before heads that look at every position (mostly 1)."""
    tied = getattr(config, "tie_word_embeddings", False)
    scaled = getattr(config, "scale_decoder_outputs", tied)  # where T5 is tied in any case
    return config.d_model**-0.5 if scaled and config.model_type in SCALED_WHEN_TIED else 1.0


def pooled_vector(
    outputs: Any,
    config: Any,
    inputs: Mapping[str, Any],
    *,
    rule: str | None = None,
    use_pooler: bool = False,
) -> torch.Tensor:
    """Return the vector of each row, (batch, hidden).

    Args:
        outputs: of the base model; ``last_hidden_state`` is (batch, length, hidden).
        config: of the model.
        inputs: keyword arguments of the base model; ``input_ids`` and ``attention_mask`` (rows,
            length) are used, repeated where the batch of *outputs* is a multiple of theirs.
        rule: ``"first"`` (or ``"cls"``), ``"last"``, ``"eos"``, ``"mean"`` or ``"pooler"``; default: the
            model's own of :func:`pooling_rule`.
        use_pooler: take ``outputs.pooler_output``.

    Raises:
        ArchitectureError: ``use_pooler`` and the model has no pooler.
        ValueError: an encoder-decoder's input has a row without ``<eos>``, or comes as embeddings.
    """
    hidden = outputs[0]
    rule = pooling_rule(config) if rule is None else rule
    if use_pooler or rule == "pooler" or hidden.dim() != 3:
        return _pooler_output(outputs, config)
    if rule in ("first", "cls"):
        return hidden[:, 0]
    if rule == "mean":
        return _mean(hidden, inputs.get("attention_mask"))
    if rule == "eos":
        return _at(hidden, _eos_position(hidden, config, inputs))
    return _at(hidden, _last_position(hidden, config, inputs))


def _mean(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None or mask.dim() != 2:
        return hidden.mean(dim=1)
    if mask.shape[0] != hidden.shape[0]:
        mask = mask.repeat(hidden.shape[0] // mask.shape[0], 1)
    hidden = hidden[:, max(0, hidden.shape[1] - mask.shape[1]) :]  # (a prompt stands in front)
    counted = mask[..., None].to(hidden.dtype)
    return (hidden * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _pooler_output(outputs: Any, config: Any) -> torch.Tensor:
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is None:
        raise ArchitectureError(
            f"The head takes the pooled output (use_pooler), which this {config.model_type} model "
            "does not return; make the head with use_pooler=False."
        )
    return pooled.flatten(1)


def _last_position(
    hidden: torch.Tensor, config: Any, inputs: Mapping[str, Any]
) -> torch.Tensor | None:
    """Return (rows,) the last position that is not padding; ``None``: the last one of all."""
    mask, ids = inputs.get("attention_mask"), inputs.get("input_ids")
    if mask is None or mask.dim() != 2:
        pad = _token(config, "pad_token_id")
        mask = None if ids is None or pad is None else ids != pad
    if mask is None:
        return None
    # A mask may be shorter (a prompt stands in front) or longer (cached past): align the ends.
    return _last_true(mask != 0) + hidden.shape[1] - mask.shape[1]


def _eos_position(
    hidden: torch.Tensor, config: Any, inputs: Mapping[str, Any]
) -> torch.Tensor | int:
    ids, eos = inputs.get("input_ids"), _token(config, "eos_token_id")
    embeds = inputs.get("inputs_embeds")
    if ids is None and embeds is not None and embeds.shape[1] == hidden.shape[1]:
        raise ValueError(
            f"A classification head on {config.model_type} looks for the last <eos> in input_ids, "
            "and the input came as inputs_embeds; pass input_ids."
        )
    if ids is None or ids.shape[1] != hidden.shape[1] or eos is None:
        return 0  # the decoder runs on tokens of its own
    found = torch.isin(ids, torch.as_tensor(eos, device=ids.device))
    if not torch.compiler.is_compiling() and not bool(found.any(dim=1).all()):
        bad = (~found.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(
            f"A classification head on {config.model_type} reads the state at the last <eos> (id "
            f"{eos}) of each row of input_ids, and rows {bad} have none; do not cut it off."
        )
    return _last_true(found)


def _token(config: Any, name: str) -> Any:
    value = getattr(config, name, None)
    return getattr(config.get_text_config(), name, None) if value is None else value


def _last_true(mask: torch.Tensor) -> torch.Tensor:
    """Return (rows,) the index of the last true value of each row, 0 where there is none."""
    return (mask * torch.arange(mask.shape[1], device=mask.device)).amax(dim=1)


def _at(hidden: torch.Tensor, position: torch.Tensor | int | None) -> torch.Tensor:
    if position is None:
        return hidden[:, -1]
    if isinstance(position, int):
        return hidden[:, position]
    if position.shape[0] != hidden.shape[0]:
        position = position.repeat(hidden.shape[0] // position.shape[0])
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    return hidden[rows, position.to(hidden.device).clamp(min=0)]
