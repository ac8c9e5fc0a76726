"""AdapterFusion (Pfeiffer et al. 2021, section 3.2): attention over the outputs of N adapters.

With u_n the adapters' up-projections and q the query at one position::

    p = softmax_n( (Q q) . (K u_n) / T )          output = sum_n p_n V u_n + r

Products that could be saved by algebra, (Q q).(K u_n) = (K^T Q q).u_n + const, are not: scores reach
thousands in trained fusions, and another order of float32 sums then moves the output by 1e-4 from
what the adapters were trained with (measured, see ``docs/design.md``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.configs import AdapterFusionConfig
from adapterhub.context import local


class AdapterFusion(nn.Module):
    """The fusion layer of one site.

    Args:
        config: which of query, key, value exist and how they are used.
        hidden: width of the hidden states.
        dropout: used where ``config.dropout_prob`` is None.

    ``temperature``: T starts at 50 and falls by 0.05 with every training step's forward to 1.
    """

    def __init__(self, config: AdapterFusionConfig, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.query_before_ln = bool(config.query_before_ln)
        self.residual_before = bool(config.residual_before)
        self.value_before_softmax = bool(config.value_before_softmax)
        self.dropout = dropout if config.dropout_prob is None else float(config.dropout_prob)
        self.has_query, self.has_key, self.has_value = config.query, config.key, config.value
        self.decays = bool(config.temperature)
        self.temperature = self.FIRST_TEMPERATURE if self.decays else 1.0
        if config.query:
            self.query_weight = nn.Parameter(torch.empty(hidden, hidden).normal_(std=0.02))
            self.query_bias = nn.Parameter(torch.zeros(hidden))
        if config.key:
            self.key_weight = nn.Parameter(torch.empty(hidden, hidden).normal_(std=0.02))
            self.key_bias = nn.Parameter(torch.zeros(hidden))
        if config.value:
            value = torch.empty(hidden, hidden).normal_(std=0.02)
            if config.value_initialized:
                value = torch.full((hidden, hidden), 1e-6)
                value.fill_diagonal_(1.0)
            self.value_weight = nn.Parameter(value)

    FILE_GROUP = "adapter_fusion_layer"
    FIRST_TEMPERATURE = 50.0

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return {name: (name.replace("_", ".", 1),) for name, _ in self.named_parameters()}

    def forward(
        self, query: torch.Tensor, ups: torch.Tensor, residual: torch.Tensor | None
    ) -> torch.Tensor:
        """Mix.

        Args:
            query: (batch, ..., hidden), mostly (batch, sequence, hidden).
            ups: (batch, ..., N, hidden).
            residual: (batch, ..., hidden), added to the result (or to every u_n).
        """
        if self.residual_before and residual is not None:
            ups = ups + residual.unsqueeze(-2)
        q = F.linear(query, self.query_weight, self.query_bias) if self.has_query else query
        keys = F.linear(ups, self.key_weight, self.key_bias) if self.has_key else ups
        scores = torch.matmul(q.unsqueeze(-2), keys.mT).squeeze(-2)
        if self.dropout and self.training:
            scores = F.dropout(scores, self.dropout)
        weights = torch.softmax(scores / self.temperature if self.decays else scores, -1)
        if self.decays and self.training:
            self.temperature = max(self.temperature - 0.05, 1.0)
        if local.ctx.collect is not None:
            local.ctx.collect.setdefault("fusions", []).append((self, weights))
        before = self.has_value and self.value_before_softmax
        values = F.linear(ups, self.value_weight) if before else ups
        mixed = torch.matmul(weights.unsqueeze(-2), values).squeeze(-2)
        if self.has_value and not before:
            mixed = F.linear(mixed, self.value_weight)
        if residual is not None and not self.residual_before:
            mixed = mixed + residual
        return mixed

    def regularization(self) -> torch.Tensor | None:
        """Return ||I - V||_F^2, which keeps the value matrix near the identity; ``None`` without V."""
        if not self.has_value or not self.value_weight.requires_grad:
            return None
        eye: Any = torch.eye(
            self.value_weight.shape[0],
            device=self.value_weight.device,
            dtype=self.value_weight.dtype,
        )
        return (eye - self.value_weight).pow(2).sum()
