"""MTL-LoRA: shared low-rank maps with a task's own matrix between them (Yang et al. 2024, arXiv 2410.09437).

With A (r, in), n up-projections B_i (out, r), the task's L (diagonal, or r x r) and weights w (n,)::

    y = W x + c + (alpha / r) sum_i softmax(w / tau)_i B_i L A x

A and the B_i are meant to be shared between tasks (``share_parameters``), L and w are a task's own.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.configs import MTLLoRAConfig
from adapterhub.methods.lora import LowRank, down, init_pair

#: Parameters that tasks share.
SHARED = ("lora_A", "lora_B")


class MTLLoRA(LowRank):
    """One task's part at one projection.

    Parameters are ``lora_A`` (r, in), ``lora_B`` (n, out, r), ``weights`` (n,) and ``task`` (r,) or (r, r).
    """

    #: The parts of a fused projection share a tensor in files; this one's outputs are its second axis.
    FUSED_AXIS = {"lora_B": 1}
    FILE_NAMES = {**LowRank.FILE_NAMES, "task": "task_specific.values"}

    def __init__(self, config: MTLLoRAConfig, width_in: int, width_out: int) -> None:
        super().__init__(config, width_in, config.scaling)
        self.sharpness = float(config.weights_sharpness)
        count = config.n_up_projection
        self.lora_A = nn.Parameter(torch.empty(config.r, width_in))
        self.lora_B = nn.Parameter(torch.empty(count, width_out, config.r))
        self.weights = nn.Parameter(torch.ones(count))
        diagonal = config.task_specific_matrix_type == "singular_values"
        self.task = nn.Parameter(torch.ones(config.r) if diagonal else torch.eye(config.r))
        if not self.lora_A.is_meta:
            init_pair(self.lora_A, self.lora_B, config.init_weights)

    def file_names(self) -> dict[str, tuple[str, ...]]:
        names = super().file_names()
        return names if self.task.dim() == 1 else {**names, "task": ("task_specific.weight",)}

    def dtype(self) -> torch.dtype:
        return self.lora_A.dtype

    def up(self) -> torch.Tensor:
        """Return sum_i softmax(w / tau)_i B_i, (out, r)."""
        shares = torch.softmax(self.weights / self.sharpness, 0)
        return torch.einsum("n,nor->or", shares, self.lora_B)

    def change(self, source: torch.Tensor) -> torch.Tensor:
        low = down(source, self.lora_A)
        low = low * self.task if self.task.dim() == 1 else F.linear(low, self.task)
        return F.linear(low, self.up())

    def product(self) -> torch.Tensor:
        task = torch.diag(self.task) if self.task.dim() == 1 else self.task
        return self.up() @ task @ self.lora_A

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        task = torch.diag(self.task) if self.task.dim() == 1 else self.task
        return self.up() @ task, self.lora_A
