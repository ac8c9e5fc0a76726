"""One forward pass that confirms a row: where the residual additions really are.

:func:`probe` runs the model once on dummy inputs with hooks in every block, solves each block for
its residual additions (:mod:`~adapterhub.architectures.wiring`) and writes what it found into the
row. The model is left exactly as it was. :func:`detect_and_probe` is what an unknown model gets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from adapterhub.architectures.detector import detect_with_notes
from adapterhub.architectures.dummies import dummy_inputs, working_inputs
from adapterhub.architectures.layout import LayoutCheck
from adapterhub.architectures.nested import expanded
from adapterhub.architectures.paths import Block, blocks_at, find, which
from adapterhub.architectures.pictures import pictured
from adapterhub.architectures.prompted import only_promptable
from adapterhub.architectures.resolve import base_model_of
from adapterhub.architectures.rows import Row, StackRow, Sublayer
from adapterhub.architectures.structure import merge_paths
from adapterhub.architectures.trace import BlockTrace, Recorder, first_tensor
from adapterhub.architectures.wiring import Solver, Topology, Wiring, present

_POINTS = ("q", "k", "v", "o", "kv", "up", "gate", "down", "out")


@dataclass(frozen=True)
class SiteCheck:
    """One place as the forward saw it.

    Attributes:
        name: canonical name, e.g. ``decoder.0.self.q``.
        path: the module, relative to the base model.
        calls: how often the module ran in its block; 0: hooks on it would never fire.
        confirmed: it ran exactly once and, for ``out``, its output was seen to enter the residual
            addition.
    """

    name: str
    path: str
    calls: int
    confirmed: bool


@dataclass
class ProbeReport:
    """What one forward showed.

    Attributes:
        row: the row as given.
        corrected: the row with ``out``, ``residual``, ``norm``, ``embed`` and the layout of fused
            projections as they were seen.
        wirings: by (stack, layer, sub-layer).
        sites: by canonical name.
        findings: differences, doubts and reasons, one sentence each.
        ran: names of the stacks whose blocks ran.
        parts: what was run without an error, the model or parts of it, and on which inputs.
    """

    row: Row
    corrected: Row
    wirings: dict[tuple[str, int, str], Wiring] = field(default_factory=dict)
    sites: dict[str, SiteCheck] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    ran: tuple[str, ...] = ()
    parts: list[tuple[nn.Module, dict[str, Any]]] = field(default_factory=list)

    @property
    def topology(self) -> dict[str, dict[str, Topology | None]]:
        """The commonest topology by stack and sub-layer, ``None`` where none was seen."""
        votes: dict[tuple[str, str], Counter[Topology | None]] = defaultdict(Counter)
        for (stack, _, name), wiring in self.wirings.items():
            votes[stack, name][wiring.topology] += 1
        result: dict[str, dict[str, Topology | None]] = {}
        for (stack, name), counter in votes.items():
            result.setdefault(stack, {})[name] = counter.most_common(1)[0][0]
        return result

    @property
    def confirmed(self) -> bool:
        """Whether every sub-layer of every block of every stack was understood."""
        everything = len(self.ran) == len(self.row.stacks) and bool(self.wirings)
        return everything and all(w.topology and w.residual for w in self.wirings.values())


@dataclass
class _StackRun:
    """Recorders and results of one stack."""

    row: StackRow
    places: list[Block]
    recorders: list[Recorder] = field(default_factory=list)
    wirings: dict[int, dict[str, Wiring]] = field(default_factory=dict)
    counts: dict[int, dict[str, int]] = field(default_factory=dict)
    layout: LayoutCheck | None = None
    first_input: torch.Tensor | None = None

    @property
    def blocks(self) -> list[nn.Module]:
        return [place.module for place in self.places]


def detect_and_probe(model: nn.Module, inputs: dict[str, Any] | None = None) -> ProbeReport:
    """Detect a row for *model* and confirm it by one forward.

    The detector's notes come first among the findings.

    Raises:
        ArchitectureError: see :func:`~adapterhub.architectures.detector.detect`.
    """
    detection = detect_with_notes(model)
    report = probe(model, detection.row, inputs)
    with _undisturbed(model):
        report.corrected = only_promptable(model, report.corrected, report.parts)
    report.findings[:0] = [note for note in detection.notes if not _settled(note, report)]
    return report


def _settled(note: str, report: ProbeReport) -> bool:
    """Whether a note about a fused layout has been overtaken by what the probe saw."""
    stack, _, rest = note.partition(": ")
    fused = {
        sub.qkv.path
        for entry in report.corrected.stacks
        if entry.name == stack
        for sub in entry.sublayers.values()
        if sub.qkv is not None
    }
    return "fused projection of unknown layout" in rest and rest.partition(":")[0] in fused


def probe(model: nn.Module, row: Row, inputs: dict[str, Any] | None = None) -> ProbeReport:
    """Run *model* once without gradients and compare what flows with what *row* says.

    Args:
        model: any model with real (not meta) weights.
        row: from the table or the detector.
        inputs: keyword arguments of the forward; default: dummies made from the config. Stacks that
            they do not reach (a vision tower behind text) are run by themselves.
    """
    base, _ = base_model_of(model)
    row = expanded(base, row)
    report = ProbeReport(row, row)
    if any(parameter.is_meta for parameter in model.parameters()):
        report.findings.append("The weights are on the meta device: nothing can be run.")
        return report
    runs = [
        _StackRun(stack, places)
        for stack in row.stacks
        if (places := blocks_at(base, stack.layers))
    ]
    with _undisturbed(model), torch.no_grad():
        for target, given in _targets(model, base, runs, inputs):
            _run(target, given, base, [run for run in runs if not run.wirings], report)
    _summarise(base, runs, report)
    return report


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; training flags and random states are put back after it."""
    flags = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        try:
            model.eval()
            yield
        finally:
            for module, training in flags:
                module.training = training


def _targets(
    model: nn.Module, base: nn.Module, runs: list[_StackRun], inputs: dict[str, Any] | None
) -> Iterator[tuple[nn.Module, dict[str, Any] | None]]:
    """Yield the model, then the sub-models around the stacks that have not run by then."""
    from transformers import PreTrainedModel

    yield model, inputs
    tried = {id(model)}
    for run in runs:
        parts = run.places[0].path.split(".")
        for length in range(len(parts), 0, -1):
            if run.wirings:
                break
            owner = find(base, ".".join(parts[:length]))
            if isinstance(owner, PreTrainedModel) and id(owner) not in tried:
                tried.add(id(owner))
                yield owner, None


def _run(
    target: nn.Module,
    inputs: dict[str, Any] | None,
    base: nn.Module,
    runs: list[_StackRun],
    report: ProbeReport,
) -> None:
    if not runs:
        return
    shown = working_inputs(target) if inputs is None and any(pictured(target)) else None
    handles: list[Any] = []
    embedded = _EmbedWatch(base, runs)
    failure = ""
    try:
        arguments = inputs or shown or dummy_inputs(target)
        for run in runs:
            _hook(run)
            handles += run.recorders
        handles.append(embedded)
        with LayoutCheck.watching([run.layout for run in runs if run.layout]):
            target(**arguments)
        report.parts.append((target, arguments))
    except Exception as error:  # whatever a stranger's forward raises is a finding, not a failure
        first = str(error).strip().split("\n")[0][:160]
        failure = (
            f"The forward of {type(target).__name__} failed ({type(error).__name__}: {first})."
        )
    finally:
        for handle in handles:
            handle.remove()
    if failure and inputs is None and (others := working_inputs(target)) is not None:
        for run in runs:
            run.wirings.clear()
            run.counts.clear()
        _run(target, others, base, runs, report)
        return
    if failure:
        report.findings.append(failure)
    embedded.apply(runs)


def _hook(run: _StackRun) -> None:
    run.recorders = []
    run.layout = LayoutCheck(run.row, run.blocks)
    for index, block in enumerate(run.blocks):

        def done(trace: BlockTrace, index: int = index, block: nn.Module = block) -> None:
            run.counts[index] = trace.counts()
            run.wirings[index] = Solver(trace, block, run.row.sublayers).solve()

        run.recorders.append(Recorder(block, done))


def _equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    if one.shape != two.shape or one.dtype != two.dtype or one.device != two.device:
        return False
    return one is two or torch.equal(one, two)


class _EmbedWatch:
    """Finds the module whose output is what the first block of a stack is given."""

    def __init__(self, base: nn.Module, runs: list[_StackRun]) -> None:
        self.made: list[tuple[str, torch.Tensor]] = []
        self.calls: Counter[str] = Counter()
        self.found: dict[str, str] = {}
        self.handles: list[Any] = []
        blocks = {id(m) for run in runs for block in run.blocks for m in block.modules()}
        for path, module in base.named_modules():
            if path and id(module) not in blocks:
                self.handles.append(module.register_forward_hook(self._note(path)))
        for run in runs:
            self.handles.append(
                run.blocks[0].register_forward_pre_hook(self._match(run), with_kwargs=True)
            )

    def _note(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.calls[path] += 1
            tensor = first_tensor(output)
            if tensor is not None:
                self.made = [*self.made[-7:], (path, tensor)]

        return hook

    def _match(self, run: _StackRun) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            for path, tensor in reversed(self.made):
                if isinstance(given, torch.Tensor) and _equal(tensor, given):
                    self.found.setdefault(run.row.name, path)

        return hook

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def apply(self, runs: list[_StackRun]) -> None:
        """Write the embedding modules into the rows that only said "input of the first block"."""
        for run in runs:
            path, stated = self.found.get(run.row.name), run.row.embed or ""
            known = run.row.invertible is not None  # (said on purpose, then)
            if stated.startswith(">") and not known and path and self.calls[path] == 1:
                run.row = replace(run.row, embed=path)


# -- from wirings to the report --------------------------------------------------------------------


def _summarise(base: nn.Module, runs: list[_StackRun], report: ProbeReport) -> None:
    stacks: dict[str, StackRow] = {}
    for run in runs:
        if not run.wirings:
            report.findings.append(
                f"{run.row.name}: its blocks did not run, so nothing in it is confirmed."
            )
            continue
        for index, block in enumerate(run.blocks):
            if index not in run.wirings:
                run.wirings[index] = {
                    name: Wiring(reason="its block did not run")
                    for name, sub in run.row.sublayers.items()
                    if present(block, sub)
                }
        repeated = max(recorder.runs for recorder in run.recorders)
        if repeated > 1:
            report.findings.append(
                f"{run.row.name}: each block runs {repeated} times a forward (shared layers), so a "
                "layer number means all of its runs."
            )
        row = run.layout.correct(run.row, report.findings) if run.layout else run.row
        stacks[run.row.name] = _correct(run, row, report)
        _check_sites(base, run, stacks[run.row.name], report)
        for index, found in run.wirings.items():
            for name, wiring in found.items():
                report.wirings[run.row.name, index, name] = wiring
    report.ran = tuple(stacks)
    report.corrected = replace(
        report.row, stacks=tuple(stacks.get(stack.name, stack) for stack in report.row.stacks)
    )


def _correct(run: _StackRun, row: StackRow, report: ProbeReport) -> StackRow:
    sublayers = dict(row.sublayers)
    for name, sub in row.sublayers.items():
        found = [(run.blocks[i], w[name]) for i, w in sorted(run.wirings.items()) if name in w]
        solved = [(block, wiring) for block, wiring in found if wiring.topology is not None]
        where = f"{row.name}.*.{name}"
        for reason, count in Counter(w.reason for _, w in found if w.reason).items():
            report.findings.append(f"{where}: {reason} ({count} of {len(found)} blocks).")
        for scale, count in Counter(w.scale for _, w in solved if w.scale != (1.0, 1.0)).items():
            report.findings.append(
                f"{where}: the residual enters the sum times {scale[0]:g}, the output times "
                f"{scale[1]:g} ({count} blocks)."
            )
        if solved:
            sublayers[name] = _correct_sublayer(sub, solved, where, report)
    return replace(row, sublayers=sublayers)


def _correct_sublayer(
    sub: Sublayer, solved: list[tuple[nn.Module, Wiring]], where: str, report: ProbeReport
) -> Sublayer:
    changes: dict[str, str | None] = {}
    for point in ("out", "residual", "norm"):
        stated = getattr(sub, point)
        seen = [(block, getattr(wiring, point)) for block, wiring in solved]
        if all(which(block, stated) == path for block, path in seen):
            continue
        path, wrong = merge_paths(seen)
        changes[point] = path
        if wrong:
            report.findings.append(
                f"{where}.{point}: blocks differ; {path} is wrong in {wrong} of them."
            )
        report.findings.append(f"{where}.{point}: the row says {stated}, the forward shows {path}.")
    return replace(sub, **changes)


def _check_sites(base: nn.Module, run: _StackRun, row: StackRow, report: ProbeReport) -> None:
    twice: Counter[str] = Counter()
    for index, block in enumerate(run.blocks):
        counts = run.counts.get(index, {})
        for name, sub in row.sublayers.items():
            paths = {point: which(block, getattr(sub, point)) for point in _POINTS}
            for fused in (sub.qkv, sub.k_v, sub.gate_up):
                if fused is not None:
                    paths.update(dict.fromkeys(fused.parts, which(block, fused.path)))
            wiring = run.wirings.get(index, {}).get(name, Wiring())
            for point, path in paths.items():
                if path is None:
                    continue
                calls = counts.get(path, 0)
                sound = calls == 1 and (point != "out" or wiring.out == path)
                key = f"{row.name}.{index}.{name}.{point}"
                report.sites[key] = SiteCheck(key, f"{run.places[index].path}.{path}", calls, sound)
                if calls != 1 and index in run.counts:
                    twice[f"{row.name}.*.{name}.{point}: {path} runs {calls} times a block"] += 1
    report.findings += [f"{text} ({count} blocks)." for text, count in twice.items()]
