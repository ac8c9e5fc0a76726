"""Configurations of prefix tuning and prompt tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapterhub.configs.base import AdapterConfig


@dataclass(frozen=True, eq=False)
class PrefixTuningConfig(AdapterConfig):
    """Trained keys and values before the real ones (Li & Liang 2021).

    Attributes:
        encoder_prefix, cross_prefix: in an encoder-decoder's encoder, in its cross-attentions (the
            decoder's self-attentions always have one).
        leave_out: layer numbers without prefix.
        flat: train keys and values directly, without the network in front.
        prefix_length: positions.
        bottleneck_size, non_linearity: of the network in front.
        dropout: probability in [0, 1) on the prefix.
        use_gating, shared_gating: gate by the mean of a sigmoid over the sequence; one gate for keys and
            values, or one each.
        init_weights_seed: seed before initialisation.
    """

    architecture: str | None = field(init=False, default="prefix_tuning")
    encoder_prefix: bool = True
    cross_prefix: bool = True
    leave_out: list[int] = field(default_factory=list)
    flat: bool = False
    prefix_length: int = 30
    bottleneck_size: int = 512
    non_linearity: str = "tanh"
    dropout: float = 0.0
    use_gating: bool = False
    shared_gating: bool = True
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        self._flags("encoder_prefix", "cross_prefix", "flat", "use_gating", "shared_gating")
        self._is("prefix_length", int, 1)
        self._is("bottleneck_size", int, 1)
        self._is("non_linearity", str)
        self._is("init_weights_seed", int, optional=True)
        self._probability("dropout")
        self._layers()


@dataclass(frozen=True, eq=False)
class PromptTuningConfig(AdapterConfig):
    """Trained embeddings before the input's (Lester et al. 2021).

    Attributes:
        prompt_length: positions.
        prompt_init: ``"random_uniform"`` or ``"from_string"`` (of ``prompt_init_text``).
        combine: ``"prefix"``, or ``"prefix_after_bos"``: behind the first token.
        init_weights_seed: seed before initialisation.
    """

    architecture: str | None = field(init=False, default="prompt_tuning")
    prompt_length: int = 10
    prompt_init: str = "random_uniform"
    prompt_init_text: str | None = None
    combine: str = "prefix"
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        self._is("prompt_length", int, 1)
        self._one_of("prompt_init", ("random_uniform", "from_string"))
        self._one_of("combine", ("prefix", "prefix_after_bos"))
        self._is("prompt_init_text", str, optional=True)
        self._is("init_weights_seed", int, optional=True)
