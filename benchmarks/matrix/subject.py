"""What a check works on: :class:`Subject`, a tiny model of one family, and what it does without adapters."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from tests.architectures.tiny import tiny_model
from tests.rules.families import METHODS, randomize
from torch import nn

import adapterhub
from adapterhub.architectures import ResolvedModel, resolve
from adapterhub.architectures.dummies import candidates

ROWS = 2


class Failed(AssertionError):
    """The library does not keep the rule."""


class NotApplicable(Exception):
    """The bare model does not keep the rule either."""


class Unbuilt(NamedTuple):
    """A family without a tiny model, and why."""

    family: str
    error: Exception


class Subject:
    """A family's tiny model: always the same weights, large enough that every part of it matters.

    Args:
        family: a model type of the table.

    Attributes:
        inputs: two rows, on which as much of the model runs as possible; one row is padded.
        before: the outputs of the bare model.
        rowwise: numbers of the outputs whose rows depend on their own row of the input alone.
        reached: names of the hosts that run on the inputs.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self._model = enlarge(tiny_model(family))
        resolved = resolve(self._model)
        inputs, self.reached = _best_inputs(self._model, resolved)
        self.inputs = inputs
        self.before = forward(self._model, inputs)
        self._facts: dict[str, Any] = {}
        self.rowwise = self._rowwise()

    def bare(self) -> Any:
        """Return a fresh copy of the model, in evaluation mode."""
        return copy.deepcopy(self._model)

    def adapted(self, *methods: str, names: tuple[str, ...] = ()) -> Any:
        """Return a fresh copy with adapters of random weights, called as their method or by *names*."""
        return adapted(self.bare(), *methods, names=names)

    def fact(self, name: str, find: Callable[[], Any]) -> Any:
        """Return what *find* gives, looked up once; what it raises counts as well."""
        if name not in self._facts:
            try:
                self._facts[name] = (True, find())
            except Exception as error:
                self._facts[name] = (False, error)
        fine, value = self._facts[name]
        if not fine:
            raise value
        return value

    def demand(self, name: str, attempt: Callable[[], Any]) -> None:
        """Raise NotApplicable if *attempt*, which is the check with the bare model, does not succeed."""
        try:
            self.fact(name, attempt)
        except Exception as error:
            raise NotApplicable(f"bare model: {line(error)}") from None

    def demand_masks(self) -> None:
        """Raise NotApplicable if the model's attention takes a mask for something else than what it hides.

        Two attentions of one model have to agree on a mask. Where they do not (one adds a mask of booleans to
        its scores, or is causal over keys of another input), what more keys or hidden positions give is
        undefined. This is asked after a failure of methods that add such, not before.
        """
        self.demand("masks", self._compare_masks)

    def _compare_masks(self) -> None:
        model, inputs = self.bare(), dict(self.inputs)
        if (
            "attention_mask" in inspect.signature(model.forward).parameters
            and "attention_mask" not in inputs
            and self.before[0].dim() == 3
        ):
            mask = torch.ones(self.before[0].shape[:2], dtype=torch.long)
            mask[-1, -2:] = 0
            inputs["attention_mask"] = mask
        found = []
        for kind in ("eager", "sdpa"):
            try:
                model.set_attn_implementation(kind)
            except ValueError:  # it has one kind only
                return
            found.append([forward(model, inputs)[0]])
        expect_close(
            found[1], found[0], "sdpa attention under a mask, compared with eager attention"
        )

    def ignores_positions(self) -> bool:
        """Whether some position of a layer's output has no part in the outputs (it is skipped later)."""
        return self.fact("ignored positions", self._ignored)

    def _ignored(self) -> bool:
        model, states = self.bare(), []

        def keep(module: Any, args: Any, output: Any) -> None:
            state = output[0] if isinstance(output, tuple) else output
            state.retain_grad()
            states.append(state)

        for layer in resolve(model).layers:
            layer.register_forward_hook(keep)
        loss(forward(model, self.inputs, grad=True)).backward()
        return any(
            state.grad is None or bool((state.grad[0].flatten(1).abs().amax(1) == 0).any())
            for state in states
        )

    def _rowwise(self) -> list[int]:
        kept = list(range(len(self.before)))
        for index in range(ROWS):
            try:
                alone = forward(self._model, rows(self.inputs, index))
            except Exception:
                return []
            kept = [
                number
                for number in kept
                if self.before[number].shape[:1] == (ROWS,)
                and alone[number].shape == self.before[number][index : index + 1].shape
                and close(alone[number], self.before[number][index : index + 1])
            ]
        return kept


def adapted(model: Any, *methods: str, names: tuple[str, ...] = ()) -> Any:
    """Give *model* adapters with random weights."""
    model = adapterhub.init(model)
    for method, name in zip(methods, names or methods, strict=True):
        model.add_adapter(name, config=METHODS[method])
    randomize(model, *(names or methods))
    return model


def enlarge(model: nn.Module) -> nn.Module:
    """Draw larger weights than the initial ones, under which changes would drown; evaluation mode.

    Biases and gates that begin at zero, too: behind a gate of zero nothing matters.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            elif parameter.is_floating_point() and not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def forward(model: Any, inputs: dict[str, Any], grad: bool = False) -> list[torch.Tensor]:
    """Return every floating-point tensor of the output, with the random numbers of a fixed seed."""
    with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(grad):
        torch.manual_seed(0)
        return flatten(model(**inputs))


def flatten(value: Any) -> list[torch.Tensor]:
    """Return the floating-point tensors inside *value*, each once."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()

    def collect(item: Any) -> None:
        if id(item) in seen:
            return
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            if item.is_floating_point() and item.numel():
                found.append(item)
        elif isinstance(item, dict):
            for inner in item.values():
                collect(inner)
        elif isinstance(item, tuple | list):
            for inner in item:
                collect(inner)

    collect(value)
    return found


def loss(outputs: list[torch.Tensor]) -> torch.Tensor:
    """Return a number in which every output matters (a sum of squares is constant after a norm)."""
    generator = torch.Generator().manual_seed(7)
    total = torch.zeros(())
    for tensor in outputs:
        if tensor.requires_grad:
            weights = torch.randn(tensor.shape, generator=generator)
            total = total + (tensor.float() * weights).sum()
    return total


def rows(inputs: dict[str, Any], index: int) -> dict[str, Any]:
    """Return row *index* of everything that has rows."""
    return {
        name: value[index : index + 1]
        if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] == ROWS
        else value
        for name, value in inputs.items()
    }


def close(one: torch.Tensor, two: torch.Tensor, tolerance: float = 5e-5) -> bool:
    """Whether two tensors are equal up to rounding, relative to the larger one's largest entry."""
    if one.shape != two.shape or not (torch.isfinite(one).all() and torch.isfinite(two).all()):
        return False
    scale = max(1.0, float(two.abs().max()) if two.numel() else 1.0)
    return bool((one - two).abs().max() <= tolerance * scale)


def expect_close(one: list[torch.Tensor], two: list[torch.Tensor], what: str) -> None:
    """Raise Failed unless all tensors are close."""
    if len(one) != len(two):
        raise Failed(f"{what}: {len(one)} outputs, not {len(two)}")
    for a, b in zip(one, two, strict=True):
        if a.shape != b.shape:
            raise Failed(f"{what}: shape {tuple(a.shape)}, not {tuple(b.shape)}")
        if not close(a, b):
            raise Failed(f"{what}: differs by {float((a - b).abs().max()):.1e}")


def differs(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    """Whether some output changed, or became longer."""
    return any(
        a.shape != b.shape or bool((a - b).abs().max() > 1e-5)
        for a, b in zip(one, two, strict=False)
    )


def line(error: BaseException) -> str:
    """Return an error in a line."""
    text = (str(error).strip().split("\n") or [""])[0][:200]
    return (
        text if isinstance(error, adapterhub.AdapterHubError) else f"{type(error).__name__}: {text}"
    )


def _best_inputs(
    model: nn.Module, resolved: ResolvedModel
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the inputs that reach most hosts, and the names of these hosts."""
    hosts = {id(site.host): site.host for site in resolved.sites.values()}
    names = {id(module): name for name, module in model.named_modules()}
    best: tuple[dict[str, Any], frozenset[str]] | None = None
    for inputs in _tries(model):
        seen: set[int] = set()
        handles = [host.register_forward_pre_hook(partial(_note, seen)) for host in hosts.values()]
        try:
            forward(model, inputs)
        except Exception:
            continue
        finally:
            for handle in handles:
                handle.remove()
        if best is None or len(seen) > len(best[1]):
            best = inputs, frozenset(names[i] for i in seen)
        if len(seen) == len(hosts):
            break
    if best is None:
        raise NotApplicable("bare model: its forward does not run on made-up inputs")
    if "noise" in inspect.signature(model.forward).parameters:  # what is masked at random, given
        config: Any = model.config
        patches = (config.image_size // config.patch_size) ** 2
        best[0]["noise"] = torch.linspace(0, 1, patches).repeat(ROWS, 1)
    try:
        forward(model, pad(best[0]))
    except Exception:  # a mask that is not over tokens alone
        return best
    return pad(best[0]), best[1]


def _note(seen: set[int], module: nn.Module, args: Any) -> None:
    seen.add(id(module))


def _tries(model: nn.Module) -> Iterator[dict[str, Any]]:
    try:
        yield from candidates(model)
    except Exception:  # a config that making inputs stumbles over
        return


def pad(inputs: dict[str, Any], left: bool = False) -> dict[str, Any]:
    """Return inputs whose last row has two positions of padding, where there is a mask over tokens."""
    mask, ids = inputs.get("attention_mask"), inputs.get("input_ids")
    if mask is None or ids is None or mask.shape != ids.shape or mask.shape[1] < 4:
        return inputs
    mask = mask.clone()
    mask[-1, slice(0, 2) if left else slice(-2, None)] = 0
    return {**inputs, "attention_mask": mask}
