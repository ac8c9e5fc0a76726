"""Configuration of prompt tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapterhub.configs.base import AdapterConfig


@dataclass(frozen=True, eq=False)
class PromptTuningConfig(AdapterConfig):
    """Trained embeddings before the input's (Lester et al. 2021, arXiv 2104.08691).

    Attributes:
        prompt_length: positions (10).
        prompt_init: ``"random_uniform"`` (default), or ``"from_string"``: the embedded ``prompt_init_text``.
        prompt_init_text: text to start from; needed by ``"from_string"`` only (None).
        combine: ``"prefix"`` (default), or ``"prefix_after_bos"``: behind the first token.
        init_weights_seed: seed before initialisation (None).
    """

    architecture: str | None = field(init=False, default="prompt_tuning")
    prompt_length: int = 10
    prompt_init: str = "random_uniform"
    prompt_init_text: str | None = None
    combine: str = "prefix"
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        self._integer("prompt_length", 1)
        self._one_of("prompt_init", "random_uniform", "from_string")
        self._text("prompt_init_text", optional=self.prompt_init != "from_string")
        self._one_of("combine", "prefix", "prefix_after_bos")
        self._integer("init_weights_seed", optional=True)
