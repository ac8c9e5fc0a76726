"""Places that few configurations ask for: token embeddings, the map to the vocabulary, norms, experts.

They are found by structure, the same way in every family, and only when a method asks
(:meth:`ResolvedModel.extras`), so that a model is resolved as fast as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from adapterhub.architectures.paths import blocks_at, locate
from adapterhub.architectures.sites import SiteKey

#: Words in the names of parameters that hold one matrix an expert, and the points they are.
_EXPERT_NAMES = {
    "gate_up_proj": "gate_up",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
}


def token_sites(model: Any) -> Iterator[Any]:
    """Yield the token embeddings of each stack; a module that two stacks share is the first one's."""
    from adapterhub.architectures.resolve import owner_of

    seen: set[int] = set()
    for stack in model.row.stacks:
        if not blocks_at(model.base, stack.layers):
            continue
        owner = owner_of(model.base, stack.layers)
        try:
            host = owner.get_input_embeddings()
        except (AttributeError, NotImplementedError, ValueError):
            continue
        if not isinstance(host, nn.Embedding) or id(host) in seen:
            continue
        path = _path_of(model.base, host)
        if path is None:
            continue
        seen.add(id(host))
        key = SiteKey(stack.name, None, None, "tokens")
        turned = stack.layout if stack.layout == "positions first" else ""
        widths = host.num_embeddings, host.embedding_dim
        yield _site(key, host, path, -1, *widths, layout=turned)


def vocabulary_sites(model: Any) -> Iterator[Any]:
    """Yield the model's own map from hidden states to the vocabulary, if it has one."""
    try:
        host = model.model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return
    if not isinstance(host, nn.Module):
        return
    wide: Any = getattr(host, "in_features", None)
    size: Any = getattr(host, "out_features", None)
    path = _path_of(model.model, host)
    if path is None or not isinstance(wide, int) or not isinstance(size, int):
        return
    stack = model.row.stacks[-1].name
    yield _site(SiteKey(stack, None, None, "vocabulary"), host, path, -1, wide, size)


def norm_sites(model: Any) -> Iterator[Any]:
    """Yield every normalisation with trained weights, first those in blocks, then the others."""
    seen: set[int] = set()
    for stack, index, block in _blocks(model):
        for path, module in block.module.named_modules():
            if _is_norm(module) and id(module) not in seen:
                seen.add(id(module))
                key = SiteKey(stack.name, index, "norm", path.replace(".", "_"))
                number = _number(model, stack, index)
                layout = "" if stack.layout == "streams" else stack.layout
                yield _norm(key, module, f"{block.path}.{path}", number, layout)
        seen.update(id(module) for module in block.module.modules())
    first = model.row.stacks[0].name
    for path, module in model.base.named_modules():
        if id(module) not in seen and _is_norm(module):
            seen.add(id(module))
            yield _norm(SiteKey(first, None, "norm", path.replace(".", "_")), module, path, -1)


def _is_norm(module: nn.Module) -> bool:
    """Whether a module normalises the last axis, with trained weights (others lie on the channels' axis)."""
    other = isinstance(module, (nn.GroupNorm, nn.modules.batchnorm._NormBase))
    weight = module._parameters.get("weight")
    named = "norm" in type(module).__name__.lower()
    return named and not other and weight is not None and weight.dim() == 1


def _norm(key: SiteKey, module: Any, path: str, number: int, layout: str = "") -> Any:
    width = module.weight.shape[0]
    return _site(key, module, path, number, width, width, layout=layout)


def expert_sites(model: Any) -> Iterator[Any]:
    """Yield the mixtures of experts whose weights are 3-D parameters, (experts, ., .)."""
    for stack, index, block in _blocks(model):
        for path, module in block.module.named_modules():
            if not expert_parameters(module):
                continue
            sub = stack.sublayers.get("ffn")
            residual = locate(block.module, sub.residual) if sub is not None else None
            key = SiteKey(stack.name, index, "ffn", "experts")
            width = model.hidden_size
            yield _site(
                key,
                module,
                f"{block.path}.{path}",
                _number(model, stack, index),
                width,
                width,
                residual=residual,
            )
            break


def expert_parameters(module: nn.Module) -> dict[str, str]:
    """Return ``{point: parameter name}`` of a module that keeps its experts in 3-D parameters."""
    found = {}
    for name, value in module._parameters.items():
        if value is not None and value.dim() == 3 and name in _EXPERT_NAMES:
            found[_EXPERT_NAMES[name]] = name
    return found if "down" in found and len(found) > 1 else {}


def experts_transposed(module: nn.Module, width: int) -> bool:
    """Whether the matrices are stored (in, out) rather than (out, in).

    Args:
        width: of the hidden states that go in and come out.
    """
    said = getattr(module, "is_transposed", None)
    if isinstance(said, bool):
        return said
    names = expert_parameters(module)
    down: Any = module._parameters[names["down"]]
    first: Any = next(module._parameters[name] for point, name in names.items() if point != "down")
    # (out, in): down is (width, inner) and the first (., width); the other way round if transposed.
    upright = down.shape[1] == width and first.shape[2] == width
    return not upright


#: What can be asked for, and who finds it.
KINDS: dict[str, Callable[[Any], Iterator[Any]]] = {
    "tokens": token_sites,
    "vocabulary": vocabulary_sites,
    "norm": norm_sites,
    "experts": expert_sites,
}


def _blocks(model: Any) -> Iterator[tuple[Any, int, Any]]:
    for stack in model.row.stacks:
        for index, block in enumerate(blocks_at(model.base, stack.layers)):
            yield stack, index, block


def _number(model: Any, stack: Any, index: int) -> int:
    """Return the layer number of a block, which the place of the block as a whole has."""
    return model.sites[SiteKey(stack.name, index, "layer", "out")].layer_id


def _path_of(root: nn.Module, wanted: nn.Module) -> str | None:
    return next((path for path, module in root.named_modules() if module is wanted), None)


def _site(
    key: SiteKey,
    host: nn.Module,
    path: str,
    layer_id: int,
    width_in: int,
    width_out: int,
    **extra: Any,
) -> Any:
    from adapterhub.architectures.resolve import ResolvedSite

    return ResolvedSite(key, host, path, layer_id, width_in, width_out, peer_path=path, **extra)
