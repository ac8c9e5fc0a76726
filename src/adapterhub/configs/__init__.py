"""TEMPORARY development stand-in; replaced by the real room."""
from __future__ import annotations
import dataclasses, json, os
from dataclasses import dataclass, field, asdict
from typing import Any

@dataclass(frozen=True)
class AdapterConfig:
    def to_dict(self): return asdict(self)
    def replace(self, **k): return dataclasses.replace(self, **k)
    @classmethod
    def from_dict(cls, d):
        d = dict(d)
        if d.get("architecture") == "union":
            return ConfigUnion(*[AdapterConfig.from_dict(c) for c in d["configs"]])
        kind = {None: BnConfig, "prefix_tuning": PrefixTuningConfig, "lora": LoRAConfig}[d.get("architecture")]
        names = {f.name for f in dataclasses.fields(kind)}
        return kind(**{k: v for k, v in d.items() if k in names})

@dataclass(frozen=True)
class BnConfig(AdapterConfig):
    mh_adapter: bool = False
    output_adapter: bool = True
    reduction_factor: Any = 16
    non_linearity: str = "relu"
    original_ln_before: bool = False
    original_ln_after: bool = True
    ln_before: bool = False
    ln_after: bool = False
    init_weights: str = "bert"
    init_weights_seed: Any = None
    is_parallel: bool = False
    scaling: Any = 1.0
    use_gating: bool = False
    residual_before_ln: Any = True
    adapter_residual_before_ln: bool = False
    inv_adapter: Any = None
    inv_adapter_reduction_factor: Any = None
    cross_adapter: bool = False
    leave_out: Any = field(default_factory=list)
    dropout: float = 0.0
    phm_layer: bool = False
    stochastic_depth: float = 0.0
    def bottleneck_size(self, hidden, layer):
        rf = self.reduction_factor
        if isinstance(rf, dict): rf = rf.get(str(layer), rf.get("default"))
        return max(1, int(hidden // rf))

@dataclass(frozen=True)
class PrefixTuningConfig(AdapterConfig):
    architecture: str = "prefix_tuning"
    encoder_prefix: bool = True
    cross_prefix: bool = True
    leave_out: Any = field(default_factory=list)
    flat: bool = False
    prefix_length: int = 30
    bottleneck_size: int = 512
    non_linearity: str = "tanh"
    dropout: float = 0.0
    use_gating: bool = False
    shared_gating: bool = True
    init_weights_seed: Any = None

@dataclass(frozen=True)
class LoRAConfig(AdapterConfig):
    architecture: str = "lora"
    selfattn_lora: bool = True
    intermediate_lora: bool = False
    output_lora: bool = False
    leave_out: Any = field(default_factory=list)
    r: int = 8
    alpha: int = 8
    dropout: float = 0.0
    attn_matrices: Any = field(default_factory=lambda: ["q", "v"])
    composition_mode: str = "add"
    init_weights: str = "lora"
    use_gating: bool = False
    use_dora: bool = False
    vera_d: Any = None
    vera_b: Any = None
    dtype: Any = None
    init_weights_seed: Any = None

class ConfigUnion(AdapterConfig):
    def __init__(self, *configs): object.__setattr__(self, "configs", configs)
    def to_dict(self): return {"architecture": "union", "configs": [c.to_dict() for c in self.configs]}

@dataclass(frozen=True)
class AdapterFusionConfig:
    key: bool = True
    query: bool = True
    value: bool = True
    query_before_ln: bool = False
    regularization: bool = True
    residual_before: bool = False
    temperature: bool = False
    value_before_softmax: bool = True
    value_initialized: Any = True
    dropout_prob: Any = None
    def to_dict(self): return asdict(self)
    @classmethod
    def from_dict(cls, d): return cls(**d)
    @classmethod
    def load(cls, c): return cls() if c is None or c == "dynamic" else (cls(**c) if isinstance(c, dict) else c)

def resolve_config(spec=None, **kw):
    if isinstance(spec, AdapterConfig): return spec
    if isinstance(spec, dict): return AdapterConfig.from_dict(spec)
    spec = spec or "seq_bn"
    table = {"seq_bn": BnConfig(original_ln_before=True), "double_seq_bn": BnConfig(mh_adapter=True, non_linearity="swish"),
        "par_bn": BnConfig(is_parallel=True, reduction_factor=2, scaling=4.0, init_weights="mam_adapter"),
        "lora": LoRAConfig(), "prefix_tuning": PrefixTuningConfig(), "prefix_tuning_flat": PrefixTuningConfig(flat=True),
        "seq_bn_inv": BnConfig(original_ln_before=True, inv_adapter="nice", inv_adapter_reduction_factor=2)}
    name, _, args = spec.partition("[")
    return table[name].replace(**(eval(f"dict({args[:-1]})") if args else {}))
def config_from_file(facts): return AdapterConfig.from_dict(facts["config"])
def members(c): return c.configs if isinstance(c, ConfigUnion) else (c,)
