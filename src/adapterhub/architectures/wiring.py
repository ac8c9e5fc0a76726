"""From the trace of one block to its residual additions.

A residual addition is an equation between recorded values: ``t = a·r + b·s`` where ``r`` was the
input of a module, ``s`` the output of one in the sub-layer, and ``t`` goes on (as the input of a
later module or as the block's result); ``a = b = 1`` unless the model scales its branches. Two
parallel sub-layers share one: ``t = a·r + b·s₁ + c·s₂``. With hundreds of numbers a tensor, no
equation holds by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from adapterhub.architectures.paths import find, which
from adapterhub.architectures.rows import Sublayer
from adapterhub.architectures.structure import is_norm
from adapterhub.architectures.trace import BlockTrace, Call

#: ``pre``: the norm is before the sub-layer; ``post``: on the sum; ``sandwich``: on the sub-layer's
#: output (and, as a rule, before it as well); ``parallel``: two sub-layers read the same residual
#: and are added together.
Topology = Literal["pre", "post", "sandwich", "parallel"]

_PROJECTIONS = ("q", "k", "v", "up", "gate")


@dataclass(frozen=True)
class Wiring:
    """How one sub-layer of one block is wired.

    Attributes:
        topology: ``None`` if no residual addition was found; then *reason* says why.
        out, residual, norm: paths relative to the block, as in a :class:`Sublayer`.
        scale: factors of the residual and of the sub-layer's output in the sum.
    """

    topology: Topology | None = None
    out: str | None = None
    residual: str | None = None
    norm: str | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    reason: str = ""


def present(block: nn.Module, sub: Sublayer) -> bool:
    """Whether *block* has any module of *sub*."""
    paths = (sub.q, sub.o, sub.kv, sub.up, sub.down, sub.out)
    return any(which(block, path) is not None for path in paths)


@dataclass(frozen=True)
class _Sum:
    """One solved equation, in value numbers."""

    total: int
    residual: int
    branches: tuple[int, ...]
    factors: tuple[float, ...]
    exact: bool

    def rank(self) -> tuple[bool, float]:
        return not self.exact, sum(abs(factor - 1) for factor in self.factors)


@dataclass
class _Span:
    """When a sub-layer runs: from its first projection to its last, until the next one starts."""

    name: str
    start: int
    end: int
    limit: int
    first_input: int | None


class Solver:
    """Solves one block.

    Args:
        trace: what was recorded. ``block``: the block. ``sublayers``: what the row says about it.
    """

    def __init__(self, trace: BlockTrace, block: nn.Module, sublayers: dict[str, Sublayer]) -> None:
        self.trace = trace
        self.block = block
        self.sublayers = sublayers
        self.once = trace.once()
        self.counts = trace.counts()
        self.spans = self._spans()
        self._fits: dict[tuple[int, ...], _Sum | None] = {}

    def solve(self) -> dict[str, Wiring]:
        """Return the wiring of every sub-layer that ran in this block."""
        sums: dict[str, _Sum] = {}
        for span in self.spans:
            best = self._best(
                (total, residual, (branch,))
                for branch in self._branches(span)
                for total in self._totals(branch)
                for residual in self._residuals(span)
            )
            if best is not None:
                sums[span.name] = best
        self._solve_parallel(sums)
        carried = {found.residual for found in sums.values()} | {self.trace.result}
        complete = len(sums) == len(self.spans)
        wirings = {s.name: self._wiring(s, sums.get(s.name), carried, complete) for s in self.spans}
        for name, sub in self.sublayers.items():
            if name not in wirings and present(self.block, sub):
                wirings[name] = Wiring(reason="its modules did not run")
        return wirings

    # -- when --------------------------------------------------------------------------------------

    def _spans(self) -> list[_Span]:
        spans = []
        for name, sub in self.sublayers.items():
            heads = [getattr(sub, point) for point in _PROJECTIONS]
            heads += [fused.path for fused in (sub.qkv, sub.k_v, sub.gate_up) if fused]
            first = self._calls(heads) or self._calls([sub.kv]) or self._calls([sub.out])
            last = self._calls([sub.o, sub.down]) or self._calls([sub.kv]) or self._calls([sub.out])
            if not first or not last:
                continue
            opening = min(first, key=lambda call: call.start)
            end = max(call.end for call in last)
            spans.append(_Span(name, opening.start, end, self.trace.clock + 1, opening.given))
        spans.sort(key=lambda span: span.end)
        for span, following in itertools.pairwise(spans):
            if following.start > span.end:
                span.limit = following.start
        return spans

    def _calls(self, paths: list[str | None]) -> list[Call]:
        real = {which(self.block, path) for path in paths if path}
        return [call for call in self.trace.calls if call.path in real and call.end > 0]

    # -- candidates --------------------------------------------------------------------------------

    def _branches(self, span: _Span) -> list[int]:
        """Values made by a module between the sub-layer's end and the next one's start."""
        made = [
            call.made
            for call in self.trace.calls
            if call.made is not None and span.end <= call.end < span.limit
        ]
        return [value for value in dict.fromkeys(made) if self._last_maker(value) is not None]

    def _residuals(self, span: _Span) -> list[int]:
        given = [c.given for c in self.trace.calls if c.given is not None and c.start <= span.end]
        entry = [] if self.trace.entry is None else [self.trace.entry]
        return list(dict.fromkeys(entry + given))

    def _totals(self, branch: int) -> list[int]:
        """Values that go on after *branch* was made."""
        ready = min(c.end for c in self.trace.calls if c.made == branch and c.end > 0)
        given = [c.given for c in self.trace.calls if c.given is not None and c.start > ready]
        result = [] if self.trace.result is None else [self.trace.result]
        return list(dict.fromkeys(given + result))

    # -- equations ---------------------------------------------------------------------------------

    def _best(self, candidates: Iterable[tuple[int, int, tuple[int, ...]]]) -> _Sum | None:
        best: _Sum | None = None
        for total, residual, branches in candidates:
            if len({total, residual, *branches}) < 2 + len(branches):
                continue
            found = self._fit(total, residual, branches)
            if found is not None and (best is None or found.rank() < best.rank()):
                best = found
                if best.exact:
                    break
        return best

    def _fit(self, total: int, residual: int, branches: tuple[int, ...]) -> _Sum | None:
        key = (total, residual, *branches)
        if key not in self._fits:
            self._fits[key] = self._solve_equation(total, residual, branches)
        return self._fits[key]

    def _solve_equation(self, total: int, residual: int, branches: tuple[int, ...]) -> _Sum | None:
        values = self.trace.values
        target, terms = values[total], [values[i] for i in (residual, *branches)]
        if len(branches) == 1 and torch.equal(terms[0] + terms[1], target):
            return _Sum(total, residual, branches, (1.0, 1.0), exact=True)
        wide = target.to("cpu", torch.float64)
        matrix = torch.stack([term.to("cpu", torch.float64) for term in terms], 1)
        gram = matrix.T @ matrix
        if not torch.isfinite(gram).all() or torch.linalg.cond(gram) > 1e12:
            return None
        factors = torch.linalg.solve(gram, matrix.T @ wide)
        parts = matrix * factors
        if not self._close(parts, wide):
            # A learned factor for each feature (layer scale) that is a parameter, not a module.
            if len(branches) > 1 or (scale := self._scale_by_feature(wide, matrix)) is None:
                return None
            parts = torch.stack([matrix[:, 0], matrix[:, 1] * scale], 1)
            factors = torch.stack([scale.new_ones(()), scale.mean().abs()])
            if not self._close(parts, wide):
                return None
        if (factors < 1e-3).any():
            return None
        return _Sum(
            total, residual, branches, tuple(round(float(f), 4) for f in factors), exact=False
        )

    def _close(self, parts: torch.Tensor, total: torch.Tensor) -> bool:
        """Whether the columns of *parts* add up to *total*, measured by the smallest of them."""
        loose = self.trace.values[0].dtype in (torch.float16, torch.bfloat16)
        error = (parts.sum(1) - total).norm()
        of_total, of_part = (1e-2, 0.1) if loose else (1e-5, 1e-2)
        return bool(error <= of_total * total.norm() and error <= of_part * parts.norm(dim=0).min())

    def _scale_by_feature(self, total: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor | None:
        width = self.trace.width
        if not width or total.numel() < 4 * width:
            return None
        change, branch = (total - matrix[:, 0]).view(-1, width), matrix[:, 1].view(-1, width)
        scale = (change * branch).sum(0) / (branch * branch).sum(0).clamp_min(1e-30)
        return scale.repeat(total.numel() // width)

    def _solve_parallel(self, sums: dict[str, _Sum]) -> None:
        """Pair the sub-layers that have no addition of their own."""
        open_spans = [span for span in self.spans if span.name not in sums]
        for index, one in enumerate(open_spans):
            for two in open_spans[index + 1 :]:
                best = self._best(
                    (total, residual, (first, second))
                    for first in self._branches(one)
                    for second in self._branches(two)
                    for total in self._totals(second)
                    for residual in self._residuals(one)
                )
                if best is not None:
                    a, b, c = best.factors
                    sums[one.name] = replace(best, branches=best.branches[:1], factors=(a, b, 0.0))
                    sums[two.name] = replace(best, branches=best.branches[1:], factors=(a, c, 0.0))
                    return

    # -- modules -----------------------------------------------------------------------------------

    def _wiring(
        self, span: _Span, found: _Sum | None, carried: set[int | None], complete: bool
    ) -> Wiring:
        if found is None:
            return Wiring(reason=self._why_not(span))
        out = self._last_maker(found.branches[0])
        residual = self._tap(span, found.residual)
        scale = (found.factors[0], found.factors[1])
        reason = "" if residual else "no module takes the residual as its first positional input"
        if len(found.factors) == 3:
            return Wiring("parallel", out, residual, None, scale, reason)
        norm = None if found.total in carried else self._norm_of(found.total, span.end)
        if span.first_input != found.residual and not complete:
            norm = (
                None  # the next sub-layer was not understood, so the sum may be carried after all
            )
        module = find(self.block, out) if out else None
        topology: Topology = "pre"
        if norm is not None:
            topology = "post"
        elif module is not None and is_norm(module):
            topology = "sandwich"
        return Wiring(topology, out, residual, norm, scale, reason)

    def _last_maker(self, value: int) -> str | None:
        """The module that handed the value on last; one that is called only once."""
        makers = [c for c in self.once.values() if c.made == value and c.end > 0]
        return max(makers, key=lambda call: call.end).path if makers else None

    def _tap(self, span: _Span, value: int) -> str | None:
        """The module whose first positional input is the residual, nearest to the sub-layer."""
        takers = [
            call
            for call in self.once.values()
            if call.given == value and call.positional and call.start <= span.end
        ]
        stated = which(self.block, self.sublayers[span.name].residual)
        if any(call.path == stated for call in takers):
            return stated
        leaves = [c for c in takers if not (find(self.block, c.path) or self.block)._modules]
        earlier = [other.end for other in self.spans if other.end < span.start]
        since = max(earlier, default=0)
        near = [c for c in leaves if c.start > since] or leaves or takers
        return min(near, key=lambda call: call.start).path if near else None

    def _norm_of(self, value: int, after: int) -> str | None:
        """The norm that was given the sum *value* (post-LN)."""
        for call in self.trace.calls:
            module = find(self.block, call.path)
            if (
                call.given == value
                and call.start > after
                and module is not None
                and is_norm(module)
            ):
                return call.path
        return None

    def _why_not(self, span: _Span) -> str:
        branches = self._branches(span)
        if not branches:
            return "no module that runs only once hands its output on at the residual's width"
        zero = [i for i in branches if not self.trace.values[i].any()]
        if zero:
            return "its output is zero, so that no addition can be seen"
        return "no later value is a sum of its output and an earlier value"
