"""Bottleneck adapters, sequential and parallel.

With o the sub-layer's output, x its residual input, N the model's layer norm after the addition (post-LN
models only), s a scale and a the activation, the basic sequential adapter after the feed-forward
network (Pfeiffer et al. 2020a) is::

    z = N(o + x)                                  (original_ln_before)
    y = s * (W_up a(W_down z + b_down) + b_up) + o
    layer output = N(y + x)                       (original_ln_after, done by the model itself)

and the parallel one (He et al. 2022, "Towards a Unified View", section 3.3)::

    y = s * (W_up a(W_down x + b_down) + b_up) + o

Houlsby et al. 2019 put one after the attention as well. The options of
:class:`~adapterhub.configs.BnConfig` vary what z is, where the inner residual is added, and add norms,
a gate (UniPELT, Mao et al. 2022), a learned scale (AdapterPlus, Steitz & Roth 2024) or stochastic depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs import BnConfig
from adapterhub.context import local
from adapterhub.errors import ConfigError
from adapterhub.methods.activations import activation
from adapterhub.methods.base import Built, Method, Placed, left_out
from adapterhub.methods.bottleneck_family import BOTTLENECK
from adapterhub.methods.invertible import build_invertible
from adapterhub.methods.phm import PHMLinear, SharedPHM


class BottleneckAdapter(nn.Module):
    """One bottleneck at one site.

    Args:
        config: the adapter's configuration.
        hidden: width of the hidden states.
        bottleneck: width in between.

    Parameters are ``down_weight`` (bottleneck, hidden), ``down_bias``, ``up_weight`` (hidden, bottleneck),
    ``up_bias`` and, by configuration, ``scale`` (1,) or (hidden,), ``norm_before_weight/bias``,
    ``norm_after_weight/bias``, ``gate_weight`` (1, hidden) and ``gate_bias``.
    """

    norm_before_weight: nn.Parameter
    norm_before_bias: nn.Parameter
    norm_after_weight: nn.Parameter
    norm_after_bias: nn.Parameter
    gate_weight: nn.Parameter
    gate_bias: nn.Parameter

    #: Its maps are matrices of its own, which can be stacked with those of others.
    plain_maps: ClassVar[bool] = True

    def __init__(self, config: BnConfig, hidden: int, bottleneck: int) -> None:
        super().__init__()
        self.family = BOTTLENECK
        self.parallel = bool(config.is_parallel)
        self.activation = activation(config.non_linearity)
        self.make_maps(config, hidden, bottleneck)
        self.original_ln_before = bool(config.original_ln_before)
        self.original_ln_after = bool(config.original_ln_after)
        self.residual_before_ln = config.residual_before_ln
        self.adapter_residual_before_ln = bool(config.adapter_residual_before_ln)
        self.dropout = float(config.dropout)
        self.stochastic_depth = 0.0 if self.parallel else float(config.stochastic_depth)
        self.ln_before, self.ln_after = bool(config.ln_before), bool(config.ln_after)
        self.gated = bool(config.use_gating)
        self.factor = 1.0
        self.scale: nn.Parameter | None = None
        if isinstance(config.scaling, str):
            self.scale = nn.Parameter(torch.ones(1 if config.scaling == "learned" else hidden))
        else:
            self.factor = float(config.scaling)
        #: Nothing but the two maps and the activation: the short way in ``alone`` will do.
        self.plain = (
            self.scale is None
            and not (self.ln_before or self.ln_after or self.gated)
            and self.original_ln_after
            and self.residual_before_ln is True
        )
        for flag, name in ((self.ln_before, "norm_before"), (self.ln_after, "norm_after")):
            if flag:
                setattr(self, f"{name}_weight", nn.Parameter(torch.ones(hidden)))
                setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(hidden)))
        if self.gated:
            self.gate_weight = nn.Parameter(torch.empty(1, hidden))
            self.gate_bias = nn.Parameter(torch.empty(1))
        self.reset_parameters(config)

    #: Word before the adapter's name in files.
    FILE_GROUP = "adapters"

    def make_maps(self, config: BnConfig, hidden: int, bottleneck: int) -> None:
        """Make the parameters of the two maps."""
        self.down_weight = nn.Parameter(torch.empty(bottleneck, hidden))
        self.down_bias = nn.Parameter(torch.empty(bottleneck))
        self.up_weight = nn.Parameter(torch.empty(hidden, bottleneck))
        self.up_bias = nn.Parameter(torch.empty(hidden))

    def maps(self) -> tuple[torch.Tensor, Any, torch.Tensor, Any]:
        """Return weight and bias of the way down, weight and bias of the way up."""
        return self.down_weight, self.down_bias, self.up_weight, self.up_bias

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        names = self.own_file_names()
        return {name: names[name] for name, _ in self.named_parameters()}

    def own_file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the file names of all parameters there can be."""
        # With a norm in front the first Linear is number 1.
        number = 1 if self.ln_before else 0
        return {
            "down_weight": (f"adapter_down.{number}.weight",),
            "down_bias": (f"adapter_down.{number}.bias",),
            "up_weight": ("adapter_up.weight",),
            "up_bias": ("adapter_up.bias",),
            "scale": ("scaling",),
            "norm_before_weight": ("adapter_norm_before.weight", "adapter_down.0.weight"),
            "norm_before_bias": ("adapter_norm_before.bias", "adapter_down.0.bias"),
            "norm_after_weight": ("adapter_norm_after.weight",),
            "norm_after_bias": ("adapter_norm_after.bias",),
            "gate_weight": ("gate.weight",),
            "gate_bias": ("gate.bias",),
        }

    def reset_parameters(self, config: BnConfig) -> None:
        """Initialise: ``bert`` N(0, 0.02); ``mam_adapter`` starts at zero output; ``houlsby`` truncated."""
        if next(self.parameters()).is_meta:  # about to be filled from a file
            return
        self.reset_maps(config)
        if self.gated:
            nn.init.normal_(self.gate_weight, std=0.02)
            nn.init.zeros_(self.gate_bias)

    def reset_maps(self, config: BnConfig) -> None:
        """Initialise the two maps."""
        nn.init.zeros_(self.down_bias)
        nn.init.zeros_(self.up_bias)
        if config.init_weights == "bert":
            nn.init.normal_(self.down_weight, std=0.02)
            nn.init.normal_(self.up_weight, std=0.02)
        elif config.init_weights == "mam_adapter":
            nn.init.kaiming_uniform_(self.down_weight, a=5**0.5)
            nn.init.zeros_(self.up_weight)
        elif config.init_weights == "houlsby":
            for weight in (self.down_weight, self.up_weight):
                nn.init.trunc_normal_(weight, std=0.01, a=-0.02, b=0.02)
        else:
            raise ConfigError(
                f"Unknown init_weights '{config.init_weights}'; known: bert, mam_adapter, houlsby."
            )

    def up(self, z: torch.Tensor) -> torch.Tensor:
        """Return s (W_up a(W_down z + b) + b) for z (batch, sequence, hidden)."""
        if self.ln_before:
            z = torch.layer_norm(z, (z.shape[-1],), self.norm_before_weight, self.norm_before_bias)
        down, down_bias, up, up_bias = self.maps()
        out = F.linear(self.activation(F.linear(z, down, down_bias)), up, up_bias)
        if self.stochastic_depth and self.training:
            out = drop_rows(out, self.stochastic_depth)
        if self.scale is not None:
            return out * self.scale
        return out if self.factor == 1.0 else out * self.factor

    def finish(self, up: torch.Tensor, z: torch.Tensor, r: torch.Tensor | None) -> torch.Tensor:
        """Return dropout, gate, inner residual *r* (``None``: none) and inner norm, in their order."""
        y = up
        if self.dropout and self.training:
            y = F.dropout(y, self.dropout)
        if self.gated:
            y = y * self.gate(z)
        if r is not None and (self.adapter_residual_before_ln or not self.ln_after):
            y = y + r
        if self.ln_after:
            y = torch.layer_norm(y, (y.shape[-1],), self.norm_after_weight, self.norm_after_bias)
            if r is not None and not self.adapter_residual_before_ln:
                y = y + r
        return y

    def gate(self, z: torch.Tensor) -> torch.Tensor:
        """Return mean over the sequence of sigmoid(W_g z + b_g), (batch, 1, 1)."""
        gate = torch.sigmoid(F.linear(z, self.gate_weight, self.gate_bias)).mean(1, keepdim=True)
        collect = local.ctx.collect
        if collect is not None:
            collect.setdefault("gates", []).append((self, gate))
        return gate

    def enter(
        self, h: torch.Tensor, x: torch.Tensor, norm: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (z, r): the bottleneck's input and its inner residual, for a running value *h*."""
        if self.parallel:
            return x, x
        r = h
        z = h
        if self.original_ln_before:
            z = h + x
            if self.residual_before_ln == "post_add":
                r = z
            if norm is not None:
                z = norm(z) if type(norm) is not nn.LayerNorm else _layer_norm(norm, z)
        if self.residual_before_ln is False:
            r = z
        return z, r


class Compacter(BottleneckAdapter):
    """A bottleneck whose maps are sums of Kronecker products; see :mod:`adapterhub.methods.phm`."""

    plain_maps = False

    def __init__(
        self, config: BnConfig, hidden: int, bottleneck: int, shared: SharedPHM | None
    ) -> None:
        self.__dict__["shared"] = (shared,)
        super().__init__(config, hidden, bottleneck)
        self.__dict__["shared"] = ()
        self.plain = False

    def make_maps(self, config: BnConfig, hidden: int, bottleneck: int) -> None:
        (shared,) = self.__dict__["shared"]
        self.down = PHMLinear(config, hidden, bottleneck, shared, "down")
        self.up_again = PHMLinear(config, bottleneck, hidden, shared, "up")

    def maps(self) -> tuple[torch.Tensor, Any, torch.Tensor, Any]:
        return self.down.matrix(), self.down.b, self.up_again.matrix(), self.up_again.b

    def reset_maps(self, config: BnConfig) -> None:
        if config.init_weights == "mam_adapter" and not config.shared_W_phm:
            for name, parameter in self.up_again.named_parameters():
                if name in ("W", "W_right"):
                    nn.init.zeros_(parameter)
        elif config.init_weights != "bert":
            raise ConfigError(
                f"init_weights='{config.init_weights}' says how to draw full matrices, which Compacter "
                "(phm_layer=True) does not have; use 'bert', which leaves its own start."
            )

    def file_names(self) -> dict[str, tuple[str, ...]]:
        number = 1 if self.ln_before else 0
        own = {"down": f"adapter_down.{number}", "up_again": "adapter_up"}
        names = self.own_file_names()
        for name, _ in self.named_parameters():
            part, _, leaf = name.partition(".")
            names[name] = (f"{own[part]}.{leaf}",) if leaf else names[name]
        return {name: names[name] for name, _ in self.named_parameters()}


def _layer_norm(norm: nn.LayerNorm, z: torch.Tensor) -> torch.Tensor:
    return torch.layer_norm(z, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def drop_rows(x: torch.Tensor, probability: float) -> torch.Tensor:
    """Stochastic depth, row mode (Huang et al. 2016): zero whole rows, scale the rest by 1/(1-p)."""
    keep = torch.full(
        (x.shape[0],) + (1,) * (x.dim() - 1), 1 - probability, device=x.device, dtype=x.dtype
    )
    return x * torch.bernoulli(keep) / (1 - probability)


class Bottleneck(Method):
    """Bottlenecks after the sub-layers that the configuration names."""

    name = "bottleneck"
    config_type = BnConfig

    def places(self, config: BnConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        for site in model.select(point="out"):
            wanted = {
                "self": config.mh_adapter,
                "cross": config.mh_adapter if site.cross_is_mh else config.cross_adapter,
                "ffn": config.output_adapter,
            }.get(site.key.sublayer or "", False)
            if wanted and not left_out(config, site):
                yield site

    def build(self, config: BnConfig, model: ResolvedModel) -> Built:
        sites = list(self.places(config, model))
        shared = shared_phm(config, sites)
        placed = []
        for site in sites:
            if config.init_weights_seed:
                torch.manual_seed(config.init_weights_seed)
            hidden = site.in_features
            width = config.bottleneck_size(hidden, site.layer_id)
            module = (
                Compacter(config, hidden, width, shared)
                if config.phm_layer
                else BottleneckAdapter(config, hidden, width)
            )
            # Where adapters do not see the residual, there is no sum to look at first.
            module.original_ln_before &= site.sees_sum
            placed.append(Placed(site, module))
        placed += build_invertible(config, model)
        return Built(placed, {} if shared is None else {"phm": shared})


def shared_phm(config: BnConfig, sites: Sequence[ResolvedSite]) -> SharedPHM | None:
    """Return what the Compacter modules of one adapter share, or ``None`` if that is nothing.

    Raises:
        ConfigError: shared matrices, but places of different width.
    """
    if not config.phm_layer or not (config.shared_phm_rule or config.shared_W_phm) or not sites:
        return None
    shapes = {(s.in_features, config.bottleneck_size(s.in_features, s.layer_id)) for s in sites}
    if config.shared_W_phm and len(shapes) > 1:
        raise ConfigError(
            f"shared_W_phm=True needs equally wide places, found (hidden, bottleneck) {sorted(shapes)}; use "
            "one reduction_factor, or shared_W_phm=False."
        )
    if config.init_weights_seed:
        torch.manual_seed(config.init_weights_seed)
    return SharedPHM(config, *shapes.pop())
