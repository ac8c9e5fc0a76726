"""``generate()`` for models whose active head writes text.

The model classes of transformers that generate (``...ForCausalLM``, ``...ForConditionalGeneration``)
differ from their base models in a mixin and sometimes in a few methods that prepare the next step's
inputs. A model with heads takes both over from the class that transformers lists for its architecture.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import GenerationMixin, PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from adapterhub.context import current, using
from adapterhub.errors import ConfigError
from adapterhub.heads.losses import IGNORED
from adapterhub.heads.setup import names_of

#: Methods of the model and of ``GenerationMixin`` are there at run time.
_Host: Any = object

#: Lists of generating classes by model type, in order of preference.
GENERATING: tuple[Mapping[Any, Any], ...] = (
    auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)
#: What encoder-decoders call the method that turns labels into input of the decoder.
SHIFT = "prepare_decoder_input_ids_from_labels"
#: Methods to take over beside those that override ``GenerationMixin``'s.
ALSO = (SHIFT, "_reorder_cache")


class Generates(_Host):
    """Mixin of classes that can generate once a head that writes text is active."""

    def generate(self, *args: Any, head: Any = None, **kwargs: Any) -> Any:
        """Generate with the active head (or heads, one a Parallel channel), as in transformers.

        Args:
            args, kwargs: as for ``GenerationMixin.generate``, and ``adapter_rows``.
            head: the head or heads to write with; default: as for the model's forward.

        Raises:
            ConfigError: no head is active, or one that does not write text.
        """
        names = names_of(self._heads_in_force(head))
        others = [name for name in names if not self._head(name).generates]
        if others or not names:
            active = f"'{others[0]}' is none" if others else "no head is active"
            raise ConfigError(
                f"generate() needs a head that writes text, and {active}; add one with "
                "add_causal_lm_head or add_seq2seq_lm_head, or name one with head=…."
            )
        if head is None:
            return super().generate(*args, **kwargs)
        with using(current().derive(heads=head)):
            return super().generate(*args, **kwargs)


def generating_class(model_type: str) -> type[PreTrainedModel] | None:
    """Return transformers' own class that generates for a model type, if there is one."""
    for mapping in GENERATING:
        name: Any = mapping.get(model_type)
        name = name if isinstance(name, str) or name is None else name[0]
        found = None if name is None else getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, GenerationMixin):
            return found  # type: ignore[return-value]
    return None


def generation_mixin(static: type[PreTrainedModel]) -> type:
    """Return the mixin that makes *static* generate: ``GenerationMixin`` or a family's own."""
    return next(
        cls
        for cls in static.__mro__
        if issubclass(cls, GenerationMixin) and not issubclass(cls, PreTrainedModel)
    )


def take_over(cls: type, static: type[PreTrainedModel]) -> None:
    """Give *cls* the methods by which *static* prepares its steps of generation."""
    for name, value in static.__dict__.items():
        wanted = name in ALSO or (hasattr(GenerationMixin, name) and not name.startswith("__"))
        if wanted and inspect.isfunction(value):
            setattr(cls, name, _rebound(value, cls))
    listed = {name for mapping in GENERATING[:2] for name in mapping.values()}
    if static.__name__ in listed and SHIFT not in cls.__dict__:
        setattr(cls, SHIFT, shift_right)


def shift_right(model: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return an encoder-decoder's labels (batch, length) shifted right, as input of its decoder."""
    start, pad = model.config.decoder_start_token_id, model.config.pad_token_id
    shifted = labels.new_full(labels.shape, pad)
    shifted[:, 0] = start
    shifted[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, pad)
    return shifted


def _rebound(function: types.FunctionType, cls: type) -> types.FunctionType:
    """Return a copy of a method whose ``super()`` means *cls*'s bases."""
    names = function.__code__.co_freevars
    if "__class__" not in names:
        return function
    cells = tuple(
        types.CellType(cls) if name == "__class__" else cell
        for name, cell in zip(names, function.__closure__ or (), strict=True)
    )
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__doc__ = function.__doc__
    return made
