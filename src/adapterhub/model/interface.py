"""Where things are in a model, in the words of the ``adapters`` library: :class:`AdapterModelInterface`.

Models of any family are recognised without it (see :mod:`adapterhub.architectures`). It is for scripts
that describe their own model this way, and for the ``adapter_interface.json`` of existing folders.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from adapterhub.architectures import Row
from adapterhub.architectures.resolve import base_model_of
from adapterhub.architectures.rows import Fused, PeerPaths, StackRow, Sublayer
from adapterhub.checkpoints.files import read_json, write_json
from adapterhub.errors import ConfigError, did_you_mean

INTERFACE = "adapter_interface.json"


@dataclass
class AdapterModelInterface:
    """Paths of modules; those of layers relative to the layer, the others to the base model.

    Attributes:
        adapter_methods: of no effect; what a model can have follows from its places.
        model_embeddings, model_layers: the embeddings, the list of layers.
        layer_self_attn, layer_cross_attn: the attentions, or ``None``.
        attn_k_proj, attn_q_proj, attn_v_proj: projections relative to the attention; or ``attn_qkv_proj``.
        attn_o_proj: its output projection.
        layer_intermediate_proj, layer_output_proj: the feed-forward network.
        layer_pre_self_attn, layer_pre_cross_attn, layer_pre_ffn: modules whose first input is the residual.
        layer_ln_1, layer_ln_2: norms that adapters may apply.
        base_model: path of the base model, if the model is more than that.
    """

    adapter_methods: list[str]
    model_embeddings: str
    model_layers: str
    layer_self_attn: str | None = None
    layer_cross_attn: str | None = None
    attn_k_proj: str | None = None
    attn_q_proj: str | None = None
    attn_v_proj: str | None = None
    attn_qkv_proj: str | None = None
    attn_o_proj: str | None = None
    layer_intermediate_proj: str | None = None
    layer_output_proj: str | None = None
    layer_pre_self_attn: str | None = None
    layer_pre_cross_attn: str | None = None
    layer_pre_ffn: str | None = None
    layer_ln_1: str | None = None
    layer_ln_2: str | None = None
    base_model: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return dataclasses.asdict(self)

    def save(self, save_directory: str | Path, **facts: Any) -> None:
        """Write ``adapter_interface.json`` into a folder."""
        write_json(Path(save_directory) / INTERFACE, {"interface": self.to_dict(), **facts})

    @classmethod
    def load(cls, folder: str | Path) -> AdapterModelInterface:
        """Read ``adapter_interface.json``. Raises CheckpointError, ConfigError."""
        data = read_json(Path(folder) / INTERFACE).get("interface")
        known = [item.name for item in dataclasses.fields(cls)]
        for name in data if isinstance(data, dict) else ():
            if name not in known:
                raise ConfigError(
                    f"'{name}' is no field of an interface.{did_you_mean(name, known)}"
                )
        try:
            return cls(**(data or {}))
        except TypeError as error:
            raise ConfigError(f"{Path(folder) / INTERFACE}: {error}") from error

    def row(self, model: nn.Module) -> Row:
        """Return the same as a row for *model*.

        Raises:
            ConfigError: neither or both of separate and fused projections.
        """
        base, path = base_model_of(model)
        inside = self.base_model if self.base_model and self.base_model != path else None
        if (self.attn_qkv_proj is None) == (self.attn_q_proj is None):
            raise ConfigError(
                "An interface names either attn_q_proj, attn_k_proj and attn_v_proj, or attn_qkv_proj."
            )
        sublayers: dict[str, Sublayer] = {}
        kinds = (
            ("self", self.layer_self_attn, self.layer_pre_self_attn, self.layer_ln_1),
            ("cross", self.layer_cross_attn, self.layer_pre_cross_attn, None),
        )
        for name, attention, before, norm in kinds:
            if attention is not None:
                sublayers[name] = self._attention(name, attention, before, norm)
        if self.layer_output_proj is not None:
            sublayers["ffn"] = Sublayer(
                up=self.layer_intermediate_proj,
                down=self.layer_output_proj,
                out=self.layer_output_proj,
                residual=self.layer_pre_ffn,
                norm=self.layer_ln_2,
                norm_on="",
            )
        layers = _join(inside, self.model_layers)
        points = {"self.out": "attention_adapters", "ffn.out": "output_adapters"}
        stack = StackRow(
            "decoder",
            layers,
            sublayers,
            embed=_join(inside, self.model_embeddings),
            peer=PeerPaths(layers, {**points, "cross.out": "attention_adapters"}),
        )
        kind = getattr(getattr(base, "config", None), "model_type", "") or type(base).__name__
        prefix = path or getattr(model, "base_model_prefix", "")
        return Row(kind, (stack,), prefix, "user")

    def _attention(
        self, name: str, attention: str, before: str | None, norm: str | None
    ) -> Sublayer:
        def inside(path: str | None) -> str | None:
            return None if path is None else _join(attention, path)

        fused = inside(self.attn_qkv_proj)
        whole = name == "cross"  # the output of a cross-attention is that of the whole module
        return Sublayer(
            q=inside(self.attn_q_proj),
            k=inside(self.attn_k_proj),
            v=inside(self.attn_v_proj),
            o=inside(self.attn_o_proj),
            qkv=None if fused is None else Fused(fused),
            kv=attention,
            out=attention if whole else inside(self.attn_o_proj),
            residual=before,
            norm=norm,
            norm_on="",
        )


def _join(first: str | None, second: str) -> str:
    return f"{first}.{second}" if first else second
