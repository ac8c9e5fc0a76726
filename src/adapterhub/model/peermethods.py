"""Methods that scripts for the ``adapters`` library may call on a model and that have no other use here.

Some of them are steps of that library's own forward pass. Here the engine's hooks take these steps; what is
below does the same for somebody who calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from adapterhub.context import Context
from adapterhub.errors import ConfigError
from adapterhub.model.stored import ModelAdaptersConfig, add_from


class PeerMethods:
    """Mixin of all models with adapters."""

    #: Kept for scripts that ask: every model here has what the first two are about.
    support_prompt_tuning: ClassVar[bool] = True
    support_lora_delta_w_svd: ClassVar[bool] = True
    add_base_adapters: ClassVar[bool] = True
    #: Places come from the architecture's row, which an interface may have been made into.
    adapter_interface: Any = None

    def init_adapters(self, model_config: Any, adapters_config: Any) -> None:
        """Add the adapters of *adapters_config* that the model lacks, with fresh weights."""
        if adapters_config is not None:
            add_from(self.adapter_handle, ModelAdaptersConfig.load(adapters_config))  # type: ignore[attr-defined]

    def forward_context(self, context: Context, *args: Any, **kwargs: Any) -> None:
        """Note in *context* what the arguments of a forward pass say about adapters."""
        rows = kwargs.get("adapter_rows", kwargs.get("task_ids"))
        if rows is not None:
            context.rows = self.adapter_handle.engine.rows_tensor(rows)  # type: ignore[attr-defined]

    def set_shared_parameters(self, param: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace parameters that the modules of an adapter share.

        Args:
            param: ``{adapter: {name: parameter}}``, names as in files (``lora_A``, ``phm_rule``, …).

        Raises:
            ConfigError: an adapter, a name or a shape that the model has not.
        """
        adapters = self.adapter_handle.engine.adapters  # type: ignore[attr-defined]
        found: list[tuple[dict[str, Any], str, Any]] = []
        for adapter, values in param.items():
            modules = adapters[adapter].shared.values() if adapter in adapters else ()
            for name, value in values.items():
                owners = [
                    group
                    for module in modules
                    for group in (module._parameters, module._buffers)
                    if name in group and group[name].shape == value.shape
                ]
                if not owners:
                    raise ConfigError(
                        f"No adapter '{adapter}' with a shared parameter '{name}' of shape "
                        f"{list(value.shape)}."
                    )
                found.append((owners[0], name, value))
        for group, name, value in found:
            group[name] = value

    def post_embedding_forward(self, module: Any, args: Any, embedding_output: Any) -> Any:
        """Return the embeddings' output as the first block would get it from an invertible adapter."""
        return self.invertible_adapters_forward(embedding_output)  # type: ignore[attr-defined]


class OneHead:
    """Mixin of task classes: the methods about heads, for the one that they have."""

    def get_labels_dict(self, head_name: str | None = None) -> dict[int, str]:
        """Return ``{id: label}`` of the model's head, which has no name."""
        return dict(self.config.id2label)  # type: ignore[attr-defined]

    def get_labels(self, head_name: str | None = None) -> list[str]:
        """Return the labels of the model's head in the order of their ids."""
        return list(self.get_labels_dict().values())

    def save_all_heads(self, save_directory: str | Path, use_safetensors: bool = True) -> None:
        """Save the model's head into a folder."""
        self.save_head(save_directory, use_safetensors=use_safetensors)  # type: ignore[attr-defined]

    def average_head(
        self,
        head_name: str,
        head_list: Sequence[str] | Mapping[str, float],
        weights: Sequence[float] | None = None,
        normalize_weights: bool = True,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Raise ConfigError: this class has one head. Models of ``AutoAdapterModel`` have several."""
        raise ConfigError(
            f"{type(self).__name__} has one head, so there is nothing to average; load the model with "
            "AutoAdapterModel."
        )
