"""Configurations of the LoRA family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from adapterhub.configs.base import QUIET, AdapterConfig

#: Projections of an attention that LoRA can change.
ATTENTION_MATRICES = ("q", "k", "v", "o")
#: Projections of a feed-forward network that it can change by name.
FFN_MATRICES = ("up", "gate", "down")
#: Starts that take something from the base weights (see :mod:`adapterhub.methods.starts`).
WEIGHT_STARTS = ("pissa", "olora")
_STARTS = ("lora", "bert", "ia3", "vera", "gaussian", *WEIGHT_STARTS)


@dataclass(frozen=True, eq=False)
class LoRAConfig(AdapterConfig):
    """Low-rank changes of linear maps (Hu et al. 2022, arXiv 2106.09685).

    Attributes:
        selfattn_lora: at attentions, self and cross, for the matrices in ``attn_matrices`` (True).
        intermediate_lora, output_lora: at the first, the second map of feed-forward networks (False).
        leave_out: layer numbers without modules (none).
        r, alpha: rank (8) and scale (8); the change is (alpha / r) B A.
        dropout: probability in [0, 1) on the input (0.0).
        attn_matrices: any of q, k, v, o (q and v).
        composition_mode: ``"add"`` (default), or ``"scale"`` for (IA)3, which needs r = 1 and no dropout.
        init_weights: ``"lora"`` (default; no change at first), ``"bert"``, ``"ia3"``, ``"vera"``;
            ``"gaussian"`` (A from N(0, 1/r^2), B = 0); ``"pissa"``, ``"olora"``: A and B start as the main
            part of the base weight, and that part is subtracted again, so the function is the base
            model's at first while the base weights stay as they are.
        use_gating: gate by the mean of a sigmoid over the sequence, instead of alpha / r (False).
        vera_d, vera_b: start of VeRA's two trained matrices; a number in either makes it VeRA (None).
        use_dora: train the magnitude too (False; DoRA).
        dtype: name of the torch type of the parameters; ``None`` (default): the base model's.
        init_weights_seed: seed before each module's initialisation (None).
        ffn_matrices: further projections of feed-forward networks by name, any of up, gate, down (none).
        use_rslora: scale by alpha / sqrt(r), which keeps large ranks stable (False; Kalajdzievski 2023,
            arXiv 2312.03732).
        embedding_lora: at the token embeddings (False).
        lm_head_lora: at the model's own map to the vocabulary (False).
        expert_matrices: in mixtures of experts whose weights are 3-D parameters, any of up, gate, down;
            one pair B A an expert. Plain LoRA without dropout only (none).
        rank_pattern, alpha_pattern: other ranks and scales at some places, by pattern over the names
            that `adapterhub inspect` shows, e.g. ``{"encoder.0.self.*": 16}``; the longest pattern that
            fits counts (none).

    From ``ffn_matrices`` on, fields are written to files only where they are used: the ``adapters``
    library has no such keys.
    """

    architecture: str | None = field(init=False, default="lora")
    selfattn_lora: bool = True
    intermediate_lora: bool = False
    output_lora: bool = False
    leave_out: Sequence[int] = ()
    r: int = 8
    alpha: float = 8
    dropout: float = 0.0
    attn_matrices: Sequence[str] = ("q", "v")
    composition_mode: str = "add"
    init_weights: str = "lora"
    use_gating: bool = False
    vera_d: float | None = None
    vera_b: float | None = None
    use_dora: bool = False
    dtype: str | None = None
    init_weights_seed: int | None = None
    ffn_matrices: Sequence[str] = field(default=(), metadata={QUIET: ()})
    use_rslora: bool = field(default=False, metadata={QUIET: False})
    embedding_lora: bool = field(default=False, metadata={QUIET: False})
    lm_head_lora: bool = field(default=False, metadata={QUIET: False})
    expert_matrices: Sequence[str] = field(default=(), metadata={QUIET: ()})
    rank_pattern: Mapping[str, int] = field(default_factory=dict, metadata={QUIET: {}})
    alpha_pattern: Mapping[str, float] = field(default_factory=dict, metadata={QUIET: {}})

    def at(self, place: str) -> LoRAConfig:
        """Return the configuration with the rank and scale that the patterns give at *place*."""
        changes = {}
        for name, patterns in (("r", self.rank_pattern), ("alpha", self.alpha_pattern)):
            fitting = [pattern for pattern in patterns if fnmatchcase(place, pattern)]
            if fitting:
                changes[name] = patterns[max(fitting, key=lambda p: (len(p), p))]
        return self.replace(**changes) if changes else self

    @property
    def scaling(self) -> float:
        """What the low-rank change is multiplied with: alpha / r, or alpha / sqrt(r)."""
        return self.alpha / (self.r**0.5 if self.use_rslora else self.r)

    def __post_init__(self) -> None:
        self._flags("use_rslora", "embedding_lora", "lm_head_lora")
        self._matrices("ffn_matrices")
        self._matrices("expert_matrices")
        self._patterns()
        self._flags("selfattn_lora", "intermediate_lora", "output_lora", "use_gating", "use_dora")
        self._layer_numbers("leave_out")
        self._integer("r", 1)
        self._number("alpha", as_float=False)
        self._probability("dropout")
        self._one_of("composition_mode", "add", "scale")
        self._one_of("init_weights", *_STARTS)
        self._number("vera_d", optional=True)
        self._number("vera_b", optional=True)
        self._text("dtype", optional=True)
        self._integer("init_weights_seed", optional=True)
        matrices = self.attn_matrices
        if not isinstance(matrices, (list, tuple, str)) or not all(
            name in ATTENTION_MATRICES for name in matrices
        ):
            raise self._refuse("attn_matrices", f"any of {', '.join(ATTENTION_MATRICES)}")
        self._set("attn_matrices", tuple(matrices))
        if self.composition_mode == "scale" and self.r != 1:
            raise self._refuse(
                "r", "1 with composition_mode='scale', which trains one factor a row"
            )
        if self.composition_mode == "scale" and self.dropout:
            raise self._refuse("dropout", "0 with composition_mode='scale'")
        self._combinations()

    def _matrices(self, name: str) -> None:
        given = getattr(self, name)
        given = (given,) if isinstance(given, str) else given
        if not isinstance(given, (list, tuple)) or not all(item in FFN_MATRICES for item in given):
            raise self._refuse(name, f"any of {', '.join(FFN_MATRICES)}")
        self._set(name, tuple(given))

    def _patterns(self) -> None:
        for name, kinds, words in (
            ("rank_pattern", int, "whole ranks >= 1"),
            ("alpha_pattern", (int, float), "numbers"),
        ):
            given = getattr(self, name)
            good = isinstance(given, Mapping) and all(
                isinstance(place, str) and isinstance(value, kinds) and not isinstance(value, bool)
                for place, value in given.items()
            )
            if not good or (name == "rank_pattern" and min(given.values(), default=1) < 1):
                raise self._refuse(name, f"a mapping from patterns over places to {words}")
            self._set(name, dict(given))

    def _combinations(self) -> None:
        """Refuse what has no meaning together."""
        special = {
            "composition_mode='scale'": self.composition_mode == "scale",
            "a vera_d or vera_b": self.vera_d is not None or self.vera_b is not None,
            "use_dora": self.use_dora,
            "use_gating": self.use_gating,
            "dropout": self.dropout > 0,
            "MTL-LoRA": self.architecture == "mtl_lora",
        }
        given = [name for name, used in special.items() if used]
        if self.expert_matrices and given:
            raise self._refuse("expert_matrices", f"empty with {given[0]}: experts take plain LoRA")
        if self.embedding_lora and self.use_gating:
            raise self._refuse(
                "embedding_lora", "False with use_gating, which reads the input's values"
            )
        if self.init_weights in WEIGHT_STARTS:
            other = [name for name in given if name not in ("use_dora", "use_gating", "dropout")]
            if other:
                raise self._refuse("init_weights", f"lora, bert, ia3 or vera with {other[0]}")
        patterns = bool(self.rank_pattern or self.alpha_pattern)
        shared = self.vera_d is not None or self.vera_b is not None
        if patterns and (shared or self.composition_mode == "scale"):
            raise self._refuse("rank_pattern", "empty for VeRA and (IA)3, which have one rank")


@dataclass(frozen=True, eq=False)
class IA3Config(LoRAConfig):
    """(IA)3: trained factors on keys, values, feed-forward (Liu et al. 2022, arXiv 2205.05638)."""

    intermediate_lora: bool = True
    r: int = 1
    alpha: float = 1
    attn_matrices: Sequence[str] = ("k", "v")
    composition_mode: str = "scale"
    init_weights: str = "ia3"


@dataclass(frozen=True, eq=False)
class VeraConfig(LoRAConfig):
    """VeRA: shared frozen random maps, trained scaling (Kopiczko et al. 2024, arXiv 2310.11454)."""

    init_weights: str = "vera"
    vera_d: float | None = 0.1
    vera_b: float | None = 0.0


@dataclass(frozen=True, eq=False)
class DoRAConfig(LoRAConfig):
    """DoRA: LoRA on the direction and a trained magnitude (Liu et al. 2024, arXiv 2402.09353)."""

    use_dora: bool = True


@dataclass(frozen=True, eq=False)
class DvoRAConfig(VeraConfig):
    """DVoRA: DoRA with VeRA's change of direction (Liu et al. 2024, arXiv 2402.09353)."""

    use_dora: bool = True


@dataclass(frozen=True, eq=False)
class MTLLoRAConfig(LoRAConfig):
    """MTL-LoRA: shared maps with a task's own in between (Yang et al. 2024, arXiv 2410.09437).

    Attributes:
        n_up_projection: number of shared up-projections (1).
        task_specific_matrix_type: ``"singular_values"`` (default) or ``"linear"``.
        weights_sharpness: temperature of the softmax over the up-projections, above 0 (0.05).
    """

    architecture: str | None = field(init=False, default="mtl_lora")
    n_up_projection: int = 1
    task_specific_matrix_type: str = "singular_values"
    weights_sharpness: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self._integer("n_up_projection", 1)
        self._one_of("task_specific_matrix_type", "singular_values", "linear")
        self._number("weights_sharpness", above=0, words="a number > 0")
