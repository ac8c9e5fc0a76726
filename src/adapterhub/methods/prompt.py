"""Prompt tuning: trained embeddings before the input (Lester et al. 2021, section 2).

With P (p, embedding) and the embedded input X (n, embedding) the model sees [P; X], or with
``combine="prefix_after_bos"`` [x_1; P; x_2 ...]. Everything the model returns per position is p longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs import PromptTuningConfig
from adapterhub.errors import CompositionError, ConfigError
from adapterhub.methods.base import Built, Family, Method, Placed


class PromptState(NamedTuple):
    """The prompts of a batch.

    Attributes:
        prompt: (batch, p, embedding).
        valid: (batch, p) bool, which positions a row really has; ``None``: all.
    """

    prompt: torch.Tensor
    valid: torch.Tensor | None = None


class Prompt(nn.Module):
    """The prompt of one adapter: parameter ``embedding`` (p, width)."""

    FILE_GROUP = "prompt_tunings"

    def __init__(self, config: PromptTuningConfig, site: ResolvedSite) -> None:
        super().__init__()
        self.family = PROMPT
        self.length = config.prompt_length
        self.after_first = config.combine == "prefix_after_bos"
        #: Where shorter prompts of a batch are filled up: behind them, so that the first position, which
        #: poolers read, is theirs; before them, where distances between positions count.
        self.fills_behind = site.insert_after is not None and not _has_distances(site.host)
        start = torch.empty(config.prompt_length, site.out_features)
        if not start.is_meta:
            if config.prompt_init == "from_string":
                start = embedded_text(config, site)
            else:
                start.uniform_(-0.5, 0.5)
        self.embedding = nn.Parameter(start)

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return {"embedding": ("prompt_embedding.weight",)}


def _has_distances(model: nn.Module) -> bool:
    """Whether attention in *model* looks at the distance between positions."""
    names = [name for name, _ in (*model.named_modules(), *model.named_parameters())]
    return any(word in name for name in names for word in ("rel_", "relative", "rotary", "rope"))


def embedded_text(config: PromptTuningConfig, site: ResolvedSite) -> torch.Tensor:
    """Return the embeddings of the configured text, repeated or cut to the prompt's length.

    Raises:
        ConfigError: the model does not say which tokenizer it goes with, or that is not to be had.
    """
    from transformers import AutoTokenizer

    owner: Any = site.host
    tokens = owner.get_input_embeddings()
    name = getattr(owner.config, "tokenizer_name_or_path", None) or owner.config.name_or_path
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        raise ConfigError(
            f"prompt_init='from_string' needs the tokenizer of the model, which is not to be had at {name!r} "
            "(set model.config.tokenizer_name_or_path); or use prompt_init='random_uniform'."
        ) from error
    ids = tokenizer(config.prompt_init_text, add_special_tokens=False)["input_ids"]
    weight: torch.Tensor = tokens.weight
    if not ids or weight.shape[1] != site.out_features:
        raise ConfigError(
            f"prompt_init_text {config.prompt_init_text!r} gives no embeddings of width {site.out_features} "
            "here; use prompt_init='random_uniform'."
        )
    wanted = [ids[number % len(ids)] for number in range(config.prompt_length)]
    return weight[wanted].detach().float().cpu().clone()


class PromptFamily(Family[PromptState]):
    """Positions before the input."""

    name = "prompt tuning"
    prompts = True

    def begin(self, h: torch.Tensor, x: Any) -> PromptState:
        """Begin with no prompt; *h* is (batch, 0, width)."""
        return PromptState(h)

    def size(self, state: PromptState, axis: int) -> int:
        if axis == 1:
            raise CompositionError(
                "Split: a prompt stands before the whole input, so it cannot be split by position; use "
                "BatchSplit or Parallel."
            )
        return state.prompt.shape[0]

    def apply(self, state: PromptState, module: Prompt, slot: Any) -> PromptState:
        rows = state.prompt.shape[0]
        mine = module.embedding.to(state.prompt.dtype).expand(rows, -1, -1)
        if not state.prompt.shape[1]:
            return PromptState(mine)
        valid = None
        if state.valid is not None:
            valid = torch.cat([state.valid.new_ones(rows, module.length), state.valid], 1)
        return PromptState(torch.cat([mine, state.prompt], 1), valid)

    def end(self, state: PromptState, slot: Any) -> torch.Tensor:
        return state.prompt

    def average(
        self, states: Sequence[PromptState], weights: Sequence[float], slot: Any
    ) -> PromptState:
        if len({s.prompt.shape[1] for s in states}) > 1 or any(s.valid is not None for s in states):
            raise CompositionError(
                f"Average at {slot.site.key}: prompts of different length have no mean; give them the "
                "same prompt_length or use Parallel or BatchSplit."
            )
        prompt: Any = sum(w * s.prompt for w, s in zip(weights, states, strict=True))
        return PromptState(prompt)

    def join(self, states: Sequence[PromptState], axis: int, slot: Any) -> PromptState:
        longest = max(s.prompt.shape[1] for s in states)
        padded = [_pad(s, longest, slot) for s in states]
        valid = None
        if any(s.valid is not None for s in padded):
            valid = torch.cat([_valid(s) for s in padded])
        return PromptState(torch.cat([s.prompt for s in padded]), valid)

    def select(
        self, state: PromptState, other: PromptState, mask: torch.Tensor, slot: Any
    ) -> PromptState:
        longest = max(state.prompt.shape[1], other.prompt.shape[1])
        old, new = _pad(state, longest, slot), _pad(other, longest, slot)
        valid = torch.where(mask.view(-1, 1), _valid(new), _valid(old))
        return PromptState(torch.where(mask.view(-1, 1, 1), new.prompt, old.prompt), valid)


def _valid(state: PromptState) -> torch.Tensor:
    if state.valid is not None:
        return state.valid
    return torch.ones(state.prompt.shape[:2], dtype=torch.bool, device=state.prompt.device)


def _pad(state: PromptState, length: int, slot: Any) -> PromptState:
    missing = length - state.prompt.shape[1]
    if not missing:
        return state
    behind = next(m for m in slot.children() if isinstance(m, Prompt)).fills_behind
    before, after = (0, missing) if behind else (missing, 0)
    return PromptState(
        F.pad(state.prompt, (0, 0, before, after)),
        F.pad(_valid(state), (before, after), value=False),
    )


PROMPT = PromptFamily()


class PromptTuning(Method):
    """A prompt before the input of every stack that has one."""

    name = "prompt_tuning"
    config_type = PromptTuningConfig

    def places(self, config: PromptTuningConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        yield from model.select(point="prompt")

    def build(self, config: PromptTuningConfig, model: ResolvedModel) -> Built:
        placed = []
        for site in self.places(config, model):
            if config.init_weights_seed:
                torch.manual_seed(config.init_weights_seed)
            placed.append(Placed(site, Prompt(config, site)))
        return Built(placed, {})
