"""Configurations of the LoRA family."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapterhub.configs.base import AdapterConfig
from adapterhub.errors import ConfigError

#: Projections of an attention that LoRA can change.
ATTENTION_MATRICES = ("q", "k", "v", "o")


@dataclass(frozen=True, eq=False)
class LoRAConfig(AdapterConfig):
    """Low-rank changes of linear maps (Hu et al. 2022).

    Attributes:
        selfattn_lora: at attentions (self and cross), for the matrices in ``attn_matrices``.
        intermediate_lora, output_lora: at the first, the second map of feed-forward networks.
        leave_out: layer numbers without modules.
        r, alpha: rank and scale; the change is (alpha / r) B A.
        dropout: probability in [0, 1) on the input.
        attn_matrices: any of q, k, v, o.
        composition_mode: ``"add"``, or ``"scale"`` for (IA)3.
        init_weights: ``"lora"`` (no change at first), ``"bert"``, ``"ia3"``, ``"vera"``.
        use_gating: gate by the mean of a sigmoid over the sequence, instead of alpha / r.
        use_dora, vera_d, vera_b: DoRA (Liu et al. 2024), VeRA (Kopiczko et al. 2024).
        dtype: name of the torch type of the parameters; ``None``: the base model's.
        init_weights_seed: seed before each module's initialisation.
    """

    architecture: str | None = field(init=False, default="lora")
    selfattn_lora: bool = True
    intermediate_lora: bool = False
    output_lora: bool = False
    leave_out: list[int] = field(default_factory=list)
    r: int = 8
    alpha: int | float = 8
    dropout: float = 0.0
    attn_matrices: list[str] = field(default_factory=lambda: ["q", "v"])
    composition_mode: str = "add"
    init_weights: str = "lora"
    use_gating: bool = False
    vera_d: float | None = None
    vera_b: float | None = None
    use_dora: bool = False
    dtype: str | None = None
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        self._flags("selfattn_lora", "intermediate_lora", "output_lora", "use_gating", "use_dora")
        self._is("r", int, 1)
        self._is("alpha", (int, float))
        self._probability("dropout")
        self._one_of("composition_mode", ("add", "scale"))
        self._one_of("init_weights", ("lora", "bert", "ia3", "vera"))
        self._is("init_weights_seed", int, optional=True)
        self._is("dtype", str, optional=True)
        for name in ("vera_d", "vera_b"):
            self._is(name, (int, float), optional=True)
        self._layers()
        matrices = (
            list(self.attn_matrices)
            if isinstance(self.attn_matrices, (list, tuple, str))
            else [None]
        )
        bad = [name for name in matrices if name not in ATTENTION_MATRICES]
        if bad:
            raise ConfigError(
                f"{type(self).__name__}: attn_matrices={self.attn_matrices!r}; allowed: any of "
                f"{', '.join(ATTENTION_MATRICES)}."
            )
        object.__setattr__(self, "attn_matrices", matrices)


@dataclass(frozen=True, eq=False)
class IA3Config(LoRAConfig):
    """(IA)3: trained scales on keys, values and the feed-forward network (Liu et al. 2022)."""

    intermediate_lora: bool = True
    r: int = 1
    alpha: int | float = 1
    attn_matrices: list[str] = field(default_factory=lambda: ["k", "v"])
    composition_mode: str = "scale"
    init_weights: str = "ia3"


@dataclass(frozen=True, eq=False)
class VeraConfig(LoRAConfig):
    """VeRA: shared random matrices, trained scales (Kopiczko et al. 2024)."""

    init_weights: str = "vera"
    vera_d: float | None = 0.1
    vera_b: float | None = 0.0


@dataclass(frozen=True, eq=False)
class DoRAConfig(LoRAConfig):
    """DoRA: LoRA on the direction, and a trained magnitude (Liu et al. 2024)."""

    use_dora: bool = True


@dataclass(frozen=True, eq=False)
class DvoRAConfig(VeraConfig):
    """DoRA with VeRA's change of direction."""

    use_dora: bool = True


@dataclass(frozen=True, eq=False)
class MTLLoRAConfig(LoRAConfig):
    """MTL-LoRA: shared low-rank maps, task-specific in between (Yang et al. 2024).

    Attributes:
        n_up_projection: number of shared up-projections.
        task_specific_matrix_type: ``"singular_values"`` or ``"linear"``.
        weights_sharpness: temperature of the softmax over the up-projections.
    """

    architecture: str | None = field(init=False, default="mtl_lora")
    n_up_projection: int = 1
    task_specific_matrix_type: str = "singular_values"
    weights_sharpness: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self._is("n_up_projection", int, 1)
        self._one_of("task_specific_matrix_type", ("singular_values", "linear"))
        self._is("weights_sharpness", (int, float), 0)
