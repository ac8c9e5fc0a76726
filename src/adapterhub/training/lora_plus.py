"""LoRA+: a higher learning rate for B than for A (Hayou et al. 2024, arXiv 2402.12354, section 4)."""

from __future__ import annotations

from typing import Any

from adapterhub.errors import ConfigError


def lora_plus_groups(
    model: Any, learning_rate: float, ratio: float = 16.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer: every trained ``lora_B`` learns *ratio* times as fast.

    Args:
        model: a model prepared with ``train_adapter``.
        learning_rate: of everything else.
        ratio: rate of B over rate of A; the paper's choice is 16 (2**4).
        weight_decay: of both groups.

    Raises:
        ConfigError: nothing named ``lora_B`` is being trained.

    Use it as ``AdapterTrainer(..., optimizers=(torch.optim.AdamW(lora_plus_groups(model, 2e-4)), None))``.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    fast = [p for name, p in named if name.endswith("lora_B")]
    if not fast:
        raise ConfigError(
            "LoRA+ needs LoRA adapters in training; call train_adapter first, with a method that has lora_B."
        )
    rest = [p for name, p in named if not name.endswith("lora_B")]
    return [
        {"params": rest, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": fast, "lr": learning_rate * ratio, "weight_decay": weight_decay},
    ]
