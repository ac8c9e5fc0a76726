"""Configuration of prefix tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapterhub.configs.base import AdapterConfig


@dataclass(frozen=True, eq=False)
class PrefixTuningConfig(AdapterConfig):
    """Trained keys and values before the real ones (Li & Liang 2021, arXiv 2101.00190).

    Attributes:
        encoder_prefix, cross_prefix: in an encoder-decoder's encoder, in its cross-attentions (True; the
            decoder's self-attentions always have one).
        leave_out: layer numbers without prefix (none).
        flat: train keys and values directly, without the network in front (False).
        prefix_length: positions (30).
        bottleneck_size, non_linearity: width and activation of the network in front (512, ``"tanh"``).
        dropout: probability in [0, 1) on the prefix (0.0).
        use_gating: gate by the mean of a sigmoid over the sequence (False).
        shared_gating: one gate for keys and values (True), or one each.
        init_weights_seed: seed before initialisation (None).
    """

    architecture: str | None = field(init=False, default="prefix_tuning")
    encoder_prefix: bool = True
    cross_prefix: bool = True
    leave_out: Sequence[int] = ()
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
        self._layer_numbers("leave_out")
        self._integer("prefix_length", 1)
        self._integer("bottleneck_size", 1)
        self._text("non_linearity")
        self._probability("dropout")
        self._integer("init_weights_seed", optional=True)
