"""The head inside a task model's checkpoint (``BertForSequenceClassification``, …), loaded as ours.

``from_pretrained`` of a model class of ours then makes a head called ``"default"``, and lets transformers
load its weights under the names that they have in the checkpoint.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel

from adapterhub.errors import AdapterHubError
from adapterhub.heads import converting, static
from adapterhub.heads.base import head_class
from adapterhub.model.headfiles import base_parts

#: The name of the head.
DEFAULT = "default"
#: Arguments of ``from_pretrained`` that say where files come from, not what the model is.
HUB_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
)
#: What parameters of layer norms are called in very old checkpoints.
_OLD = {"weight": "gamma", "bias": "beta"}


@dataclass(frozen=True)
class CheckpointHead:
    """The head of a task checkpoint: its *config*, and where its weights go.

    Attributes:
        key_mapping: ``{pattern of a name in the checkpoint: name in our model}``.
    """

    config: dict[str, Any]
    key_mapping: dict[str, str]


def head_in(
    cls: type[PreTrainedModel], source: Any, options: dict[str, Any]
) -> CheckpointHead | None:
    """Return the head in the checkpoint *source*, or ``None`` if none of ours computes the same.

    Args:
        cls: the model class that is to load it.
        source: a folder or a name on the Hugging Face hub.
        options: keyword arguments of ``from_pretrained``.
    """
    if source is None or options.get("gguf_file") or options.get("state_dict") is not None:
        return None
    hub = {name: options[name] for name in HUB_ARGUMENTS if name in options}
    config: Any = cls.config_class
    return head_of(cls, config.from_pretrained(source, **hub))


def head_of(cls: type[PreTrainedModel], config: PretrainedConfig) -> CheckpointHead | None:
    """Return the head of the task class that a checkpoint's configuration names; see :func:`head_in`."""
    name = (config.architectures or [""])[0]
    kind: Any = getattr(transformers, name, None) if static.task_of(name) else None
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        return None
    make: Any = kind
    with torch.device("meta"):
        model: Any = make(copy.deepcopy(config))
    base = model.base_model
    # Some task classes run only a part of the base model, or another one.
    if base is not model and type(base) is not getattr(cls, "base_model_class", None):
        return None
    shapes = own_shapes(model)
    found = converting.convert(name, config, shapes)
    if found is None or not found.names or not _fits(found, config, shapes):
        return None
    mapping = _mapping(found, shapes)
    if base is not model and model.base_model_prefix != cls.base_model_prefix:
        mapping[rf"^{re.escape(model.base_model_prefix)}\."] = f"{cls.base_model_prefix}."
    return CheckpointHead(found.config, mapping)


class _Sizes:
    """Stands for a model while a head is built only to see its shapes."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.config = config

    def _init_weights(self, module: Any) -> None:
        pass


def _fits(
    found: converting.Converted, config: PretrainedConfig, shapes: dict[str, torch.Size]
) -> bool:
    """Whether the head has the parameters of the task class, neither more nor others."""
    try:
        with torch.device("meta"):
            kind = head_class(found.config["head_type"])
            state = kind.from_config(_Sizes(config), DEFAULT, found.config).state_dict()
    except AdapterHubError:
        return False
    given = {ours: shapes[theirs] for theirs, ours in found.names.items()}
    return given == {name: value.shape for name, value in state.items()}


def own_shapes(model: Any) -> dict[str, torch.Size]:
    """Return the shapes of a task model's parameters outside of its base model, by name."""
    base = model.base_model
    parameters = model.named_parameters(remove_duplicate=False)
    if base is not model:
        inside = {id(part) for part in base.modules()}
        return {
            name: parameter.shape
            for name, parameter in parameters
            if id(model.get_submodule(name.rpartition(".")[0])) not in inside
        }
    # Classes like T5ForConditionalGeneration have the base model's parts beside their head.
    parts = base_parts(type(model.config), model.config)
    return {
        name: parameter.shape
        for name, parameter in parameters
        if name.partition(".")[0] not in parts
    }


def _mapping(found: converting.Converted, shapes: dict[str, torch.Size]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    last = max(int(ours.partition(".")[0]) for ours in found.names.values())
    for theirs, ours in found.names.items():
        path, _, kind = theirs.rpartition(".")
        around = f"{path.rpartition('.')[0]}.bias"
        if ours == f"{last}.bias" and around in shapes:
            theirs = around  # the same bias, and stored under this name
        mapping[f"^{_inside(theirs)}$"] = f"heads.{DEFAULT}.{ours}"
        if len(shapes.get(f"{path}.weight", (0, 0))) == 1:
            mapping[f"^{re.escape(f'{path}.{_OLD[kind]}')}$"] = f"heads.{DEFAULT}.{ours}"
    return mapping


def _inside(name: str) -> str:
    """Return a pattern for a parameter's name, and for what older checkpoints call a decoder."""
    pattern = re.escape(name)
    if not name.startswith("lm_head."):
        return pattern
    outer = r"(?:(?:language_model|text_model|model\.language_model)\.)?"
    return f"{outer}(?:lm_head|embed_out){pattern.removeprefix('lm_head')}"


def forget_names(model: Any, head: CheckpointHead) -> None:
    """Let *model* be saved under its own names again, not under those of the task checkpoint."""
    used = getattr(model, "_weight_conversions", None)
    if used:
        model._weight_conversions = [
            entry
            for entry in used
            if not any(name in head.key_mapping.values() for name in entry.target_patterns)
        ]
