"""One model type of the census: build it, try every method on it, look for traces afterwards."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto

import adapterhub
from adapterhub.architectures import ResolvedModel, resolve
from adapterhub.architectures.dummies import runnable_parts
from adapterhub.architectures.shrink import shrink

#: More parameters than this after shrinking: a family that shrink() does not understand.
_TOO_LARGE = 40_000_000
_MAPPINGS = [
    getattr(modeling_auto, name)
    for name in (
        "MODEL_MAPPING_NAMES",
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        *sorted(
            n for n in vars(modeling_auto) if n.startswith("MODEL_FOR_") and n.endswith("_NAMES")
        ),
        "MODEL_FOR_BACKBONE_MAPPING_NAMES",
    )
    if hasattr(modeling_auto, name)
]


Parts = list[tuple[nn.Module, dict[str, Any]]]


def try_type(
    model_type: str,
    methods: dict[str, str],
    tell: Callable[[dict[str, Any]], None] = lambda record: None,
) -> dict[str, Any]:
    """Return the record of *model_type*: whether it was built, and for every method whether it works.

    Args:
        model_type: as transformers calls it.
        methods: configurations by the name that they have in the record.
        tell: called with the record as far as it is, whenever something was found out.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    record: dict[str, Any] = {"model_type": model_type, "built": False, "methods": {}}
    try:
        model = build(model_type)
    except Exception as error:
        return {**record, "why": _line(error)}
    record.update(built=True, cls=type(model).__name__)
    tell(record)
    try:
        trial = Trial(model)
    except Exception as error:
        return {**record, "why": _line(error)}
    record["row"] = trial.resolved.row.source
    record["stacks"] = [stack.name for stack in trial.resolved.row.stacks]
    record["ran"] = [type(part).__name__ for part, _ in trial.parts]
    if not trial.parts:
        return {**record, "why": "its forward does not run on dummy inputs"}
    for name, config in methods.items():
        tell(record)
        try:
            record["methods"][name] = trial.of(config)
        except Exception as error:
            record["methods"][name] = {"ok": False, "why": _line(error)}
            return {**record, "why": f"{name} could not be undone: {_line(error)}"}
    return record


def build(model_type: str) -> nn.Module:
    """Return a small model of *model_type* with random weights, in evaluation mode."""
    cls = model_class(model_type)
    config = shrink(CONFIG_MAPPING[model_type]())
    with torch.device("meta"):
        size = sum(p.numel() for p in cls(config).parameters())
    if size > _TOO_LARGE:
        raise MemoryError(f"{size / 1e6:.0f} million parameters after shrinking")
    torch.manual_seed(0)
    model = cls(config).eval()
    with torch.no_grad():  # default scales are so small that changes drown
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                parameter.normal_(std=0.1)
    return model


def model_class(model_type: str) -> Any:
    """Return the base class of a model type: from the auto mappings, else by its configuration."""
    name = next((mapping[model_type] for mapping in _MAPPINGS if model_type in mapping), None)
    if name is not None:
        name = name if isinstance(name, str) else name[0]
        if hasattr(transformers, name):
            return getattr(transformers, name)
    wanted = CONFIG_MAPPING[model_type]
    home = importlib.import_module(wanted.__module__.replace(".configuration_", ".modeling_"))
    fitting = [
        cls
        for cls in vars(home).values()
        if isinstance(cls, type)
        and issubclass(cls, transformers.PreTrainedModel)
        and cls.config_class is wanted
        and "PreTrained" not in cls.__name__
        and cls.__module__ == home.__name__
    ]
    if not fitting:
        raise LookupError("no model class of its own: a part of other models")
    return min(fitting, key=lambda cls: (not cls.__name__.endswith("Model"), len(cls.__name__)))


class Trial:
    """What the methods share on one model: its places, what runs, and the bare model's outputs.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.resolved: ResolvedModel = resolve(model)
        self.parts: Parts = runnable_parts(model, self.resolved.row)
        if self.parts:
            self.keys = list(model.state_dict())
            self.reached = _reached(self.resolved, self.parts)
            self.before = _outputs(self.parts)

    def of(self, config: str) -> dict[str, Any]:
        """Add an adapter, run it forward and backward, take it away, and look for traces."""
        flags = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        handle = adapterhub.attach(self.model, self.resolved.row)
        result: dict[str, Any]
        try:
            result = self._active(handle, config)
        except Exception as error:
            result = {"ok": False, "why": _line(error)}
        handle.detach()
        for parameter, flag in flags:  # torch computes frozen models with other kernels
            parameter.requires_grad_(flag)
            parameter.grad = None
        after = _outputs(self.parts)
        if list(self.model.state_dict()) != self.keys:
            return {"ok": False, "why": "state_dict keys are not restored"}
        if len(self.before) != len(after) or not all(map(_same, self.before, after)):
            again = _outputs(self.parts)
            if all(map(_same, after, again)):
                return {"ok": False, "why": "outputs are not restored"}
            result["random"] = True  # the model itself gives another output every time
        return result

    def _active(self, handle: Any, config: str) -> dict[str, Any]:
        handle.add_adapter("a", config)
        record = handle.engine.adapters["a"]
        _randomize([*record.modules.values(), *record.shared.values()])
        handle.train_adapter("a")
        for part, _ in self.parts:
            part.eval()
        with torch.enable_grad():
            outputs = _outputs(self.parts, grad=True)
            loss = sum((o.double() ** 2).mean() for o in outputs if o.requires_grad)
            if not isinstance(loss, torch.Tensor):
                return {"ok": False, "why": "no output depends on the adapter"}
            loss.backward()
        if len(outputs) == len(self.before) and all(map(_same, self.before, outputs)):
            return {"ok": False, "why": "the output does not change"}
        return self._judged(handle.engine.resolved, record)

    def _judged(self, resolved: ResolvedModel, record: Any) -> dict[str, Any]:
        """Say where modules have no gradient, and where they lie in parts that did not run."""
        runs = {key: id(resolved.sites[key].host) in self.reached for key in record.modules}
        without = [
            str(key)
            for key, module in record.modules.items()
            if runs[key] and not _has_gradients(module)
        ]
        unreached = sum(not ran for ran in runs.values())
        if not unreached:
            without += [name for name, part in record.shared.items() if not _has_gradients(part)]
        result: dict[str, Any] = {"ok": True, "places": len(record.modules)}
        if unreached:
            result["unreached"] = unreached
        if without:
            result["without_gradient"] = without[:4]
            if len(without) * 2 > len(record.modules) - unreached:
                return {**result, "ok": False, "why": f"no gradient at {', '.join(without[:2])}"}
        return result


def _randomize(modules: list[nn.Module]) -> None:
    """Give adapters weights with an effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            for part in module.modules():
                signs = getattr(part, "original", None)
                if isinstance(signs, nn.Parameter):  # an orthogonal map's diagonal holds its signs
                    signs.diagonal().fill_(1.0)


def _has_gradients(module: nn.Module) -> bool:
    gradients = [p.grad for p in module.parameters()]
    return all(g is not None and torch.isfinite(g).all() and g.any() for g in gradients)


def _reached(resolved: ResolvedModel, parts: Parts) -> set[int]:
    """Return the ids of the hosts that run."""
    seen: set[int] = set()

    def note(host: nn.Module) -> Callable[..., None]:
        return lambda *_: seen.add(id(host))

    hosts = {id(site.host): site.host for site in resolved.sites.values()}
    handles = [host.register_forward_pre_hook(note(host)) for host in hosts.values()]
    _outputs(parts)
    for handle in handles:
        handle.remove()
    return seen


def _outputs(parts: Parts, grad: bool = False) -> list[torch.Tensor]:
    """Return all floating-point tensors that the parts put out, one after the other."""
    found: list[torch.Tensor] = []
    with torch.set_grad_enabled(grad):
        for part, inputs in parts:
            torch.manual_seed(0)
            _collect(part(**inputs), found, set())
    return found


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit; not-a-number equals itself."""
    return torch.equal(one, two) or (
        one.shape == two.shape and bool(((one == two) | (one.isnan() & two.isnan())).all())
    )


def _collect(value: Any, found: list[torch.Tensor], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and value.numel():
            found.append(value)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found, seen)
    elif isinstance(value, tuple | list):
        for item in value:
            _collect(item, found, seen)


def _line(error: Exception) -> str:
    text = (str(error).strip().split("\n") or [""])[0][:220]
    return (
        f"{type(error).__name__}: {text}"
        if not isinstance(error, adapterhub.AdapterHubError)
        else text
    )
