"""What a module is, read from its shape and its neighbours: linear, norm, dropout, attention.

No model is known by its name here. Names of *projections* are used, because they are concentrated
(eight spellings of ``q_proj`` cover nearly every model in transformers) and widths settle the rest.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import nn

from adapterhub.architectures.paths import join, parent_of, which
from adapterhub.architectures.sizes import linear_widths
from adapterhub.errors import ArchitectureError

_SHAPES = [
    "{0}",
    "{0}_proj",
    "{0}_lin",
    "{0}_linear",
    "linear_{0}",
    "lin_{0}",
    "to_{0}",
    "w{0}",
    "w_{0}",
    "{0}_head",
    "{0}_attn",
    "project_{0}",
]


def _spellings(*names: str) -> frozenset[str]:
    return frozenset(shape.format(name) for name in names for shape in _SHAPES)


Q_NAMES = _spellings("q", "query")
K_NAMES = _spellings("k", "key")
V_NAMES = _spellings("v", "value")
#: Last projection of a low-rank query (multi-head latent attention).
LOW_RANK_Q_NAMES = frozenset({"q_b_proj"})
LOW_RANK_KV_NAMES = frozenset({"kv_b_proj", "kv_proj_with_mqa"})
QKV_NAMES = frozenset(
    [
        "qkv",
        "qkv_proj",
        "query_key_value",
        "c_attn",
        "wqkv",
        "in_proj",
        "w_pack",
        "att_proj",
        "to_qkv",
        "qkv_linear",
    ]
)
#: Fused projections whose name stands for "q, then k, then v" when they are three times as wide as
#: their input. The probe confirms or refutes it.
CONCAT_NAMES = frozenset({"c_attn", "wqkv", "qkv", "to_qkv"})
O_NAMES = frozenset(
    [
        "o",
        "o_proj",
        "out_proj",
        "out_lin",
        "dense",
        "proj",
        "linear_out",
        "c_proj",
        "wo",
        "w_o",
        "to_out",
        "post_proj",
        "out",
        "output",
        "fc",
        "projection",
        "output_proj",
        "projection_layer",
        "dense_out",
        "proj_out",
        "attention_out",
        "o_b_proj",
    ]
)
_CROSS_WORDS = ("cross", "enc_", "encoder", "encdec")


@dataclass(frozen=True)
class Attention:
    """The modules of one attention; all paths relative to the block.

    Attributes:
        core: the module that owns q, k, v.
        container: the outermost module inside the block that holds this attention and nothing else.
        q, k, v, qkv, o: projections, or ``None``.
        hidden: width of its input.
        k_v: the second projection of low-rank keys and values.
    """

    core: str
    container: str
    hidden: int
    q: str | None = None
    k: str | None = None
    v: str | None = None
    qkv: str | None = None
    o: str | None = None
    k_v: str | None = None

    @property
    def cross(self) -> bool:
        """Whether its path says that it attends to another sequence."""
        return any(word in self.core.lower() for word in _CROSS_WORDS)


# -- paths -----------------------------------------------------------------------------------------


def inside(path: str, container: str) -> bool:
    """Whether *path* is *container* or lies in it."""
    return not container or path == container or path.startswith(container + ".")


def merge_paths(found: Iterable[tuple[nn.Module, str | None]]) -> tuple[str | None, int]:
    """Write the paths found in each block as one path with alternatives.

    Returns:
        The path (``None`` if there is none anywhere), and in how many blocks it is wrong.
    """
    pairs = list(found)
    options = [path for path, _ in Counter(p for _, p in pairs if p is not None).most_common(4)]

    def misses(joined: str) -> int:
        return sum(1 for block, path in pairs if path is not None and which(block, joined) != path)

    candidates = ["|".join(order) for order in itertools.permutations(options)]
    best = min(candidates, key=misses) if options else None
    if best is None:
        return None, 0
    wrong = misses(best)
    if wrong:  # alternatives cannot tell the blocks apart: the commonest path alone is clearer
        return options[0], misses(options[0])
    return best, 0


# -- predicates ------------------------------------------------------------------------------------


def widths(module: nn.Module) -> tuple[int, int] | None:
    """Return (in, out) widths of a linear-like module, ``None`` for any other."""
    try:
        return linear_widths(module, "")
    except ArchitectureError:
        return None


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a layer norm of any make: a leaf with vectors at most."""
    if module._modules or any(p.dim() > 1 for p in module.parameters(recurse=False)):
        return False
    named = "norm" in type(module).__name__.lower()
    return (
        named
        or hasattr(module, "variance_epsilon")
        or (hasattr(module, "eps") and hasattr(module, "weight"))
    )


def is_dropout(module: nn.Module) -> bool:
    """Whether the module drops values in training and is the identity otherwise."""
    if module._modules or next(module.parameters(), None) is not None:
        return False
    return isinstance(module, nn.Identity) or hasattr(module, "p") or hasattr(module, "drop_prob")


def is_list(module: nn.Module) -> bool:
    """Whether the module is a numbered list of modules."""
    return isinstance(module, nn.ModuleList | nn.Sequential)


def is_mixed_by_tensor(module: nn.Module) -> bool:
    """Whether the module mixes positions without attention: by a convolution or a state."""
    for child in module.modules():
        if isinstance(child, nn.Conv1d):
            return True
        if widths(child) is None and not isinstance(child, nn.Embedding):
            names = {name for name, _ in child.named_parameters(recurse=False)}
            if names & {"A_log", "dt_bias", "time_decay", "time_mix_key"}:
                return True
    return False


def on_interface(attention: nn.Module) -> bool:
    """Whether the module's forward calls transformers' attention interface."""
    for cls in type(attention).__mro__:
        for function in vars(cls).values():
            function = getattr(function, "__wrapped__", function)
            code = getattr(function, "__code__", None)
            if code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names:
                return hasattr(attention, "config")
    return False


def hands_over_weights(attention: nn.Module) -> bool:
    """Whether the module's own code gives its projections' weights to torch's attention function."""
    if isinstance(attention, nn.MultiheadAttention):  # whose weights are no projections
        return False
    wanted = "multi_head_attention_forward"
    functions = (f for cls in type(attention).__mro__ for f in vars(cls).values())
    return any(wanted in getattr(getattr(f, "__code__", None), "co_names", ()) for f in functions)


def scores_inline(attention: nn.Module) -> bool:
    """Whether the module's own code normalises scores, so that prefixes can be put into them."""
    wanted = {"softmax", "Softmax", "scaled_dot_product_attention"}
    for cls in type(attention).__mro__:
        if cls is nn.Module:
            return False
        for function in vars(cls).values():
            function = getattr(function, "__wrapped__", function)
            names = set(getattr(getattr(function, "__code__", None), "co_names", ()))
            called = [getattr(function, "__globals__", {}).get(name) for name in names]
            tables = [table for table in called if isinstance(table, dict)]  # (by implementation)
            for other in (*called, *(value for table in tables for value in table.values())):
                names |= set(getattr(getattr(other, "__code__", None), "co_names", ()))
            if names & wanted:
                return True
    return False


def linears(root: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the widths of every linear-like module in *root*, in registration order."""
    found = ((path, widths(module)) for path, module in root.named_modules() if path)
    return {path: width for path, width in found if width is not None}


def expert_lists(root: nn.Module) -> list[str]:
    """Return the paths of mixtures of experts: lists of equal networks, or stacked 3-D weights.

    Lists that run one after the other look the same, so the word ``expert`` has to be in the name
    of the module or of its class.
    """
    found: list[str] = []
    for path, module in root.named_modules():
        words = f"{path.rpartition('.')[2]} {type(module).__name__}".lower()
        if "expert" not in words or any(inside(path, known) for known in found):
            continue
        stacked = any(_is_stacked(p) for p in module.parameters(recurse=False))
        children = list(module.children())
        equal = (
            isinstance(module, nn.ModuleList)
            and len(children) > 1
            and len({type(c) for c in children}) == 1
            and all(linears(c) for c in children)
        )
        if path and (stacked or equal):
            found.append(path)
    return found


def _is_stacked(weight: nn.Parameter) -> bool:
    """Whether a weight is (experts, width, width): fewer experts than features."""
    return weight.dim() == 3 and 1 < weight.shape[0] <= min(weight.shape[1:])


# -- attention -------------------------------------------------------------------------------------


@dataclass
class _Core:
    path: str
    hidden: int
    picks: dict[str, str] = field(default_factory=dict)


def _core_of(path: str, module: nn.Module) -> _Core | None:
    """Read *module* as the owner of q, k, v, if it is one."""
    if isinstance(
        module, nn.MultiheadAttention
    ):  # uses its weights, not its modules: hooks never fire
        return None
    own: dict[str, tuple[int, int]] = {}
    for name, child in module.named_children():
        if (width := widths(child)) is not None:
            own[name] = width
        elif len(inner := linears(child)) == 1 and not is_list(
            child
        ):  # a wrapper of one projection
            own.update({f"{name}.{path}": width for path, width in inner.items()})

    def pick(names: frozenset[str]) -> str | None:
        return next((name for name in own if name.partition(".")[0].lower() in names), None)

    q, k, v = pick(Q_NAMES), pick(K_NAMES), pick(V_NAMES)
    qkv, low_q, low_kv = pick(QKV_NAMES), pick(LOW_RANK_Q_NAMES), pick(LOW_RANK_KV_NAMES)
    if low_kv and (q or low_q):
        first = q or next((n for n in own if n.lower() == "q_a_proj"), low_q)
        picks = {"q": str(q or low_q)}
        if low_kv == "kv_b_proj":
            picks["k_v"] = low_kv
        return _Core(path, own[str(first)][0], picks)
    if low_q and not low_kv and "kv_proj" in own:  # one projection is both keys and values
        first = next((n for n in own if n.lower() == "q_a_proj"), low_q)
        return _Core(path, own[first][0], {"q": low_q, "k": "kv_proj", "v": "kv_proj"})
    if q and (k or v or any(name.lower() in ("kv", "kv_proj", "to_kv", "c_attn") for name in own)):
        picks = {"q": q, "k": k, "v": v}
        return _Core(path, own[q][0], {point: name for point, name in picks.items() if name})
    if qkv and not is_mixed_by_tensor(module) and own[qkv][1] > own[qkv][0]:
        return _Core(path, own[qkv][0], {"qkv": qkv})
    return None


def is_attention(module: nn.Module) -> bool:
    """Whether *module* itself owns q, k and v projections."""
    return _core_of("", module) is not None


def has_attention(module: nn.Module) -> bool:
    """Whether an attention is anywhere in *module*."""
    return any(_core_of(path, child) for path, child in module.named_modules())


def find_attentions(block: nn.Module) -> list[Attention]:
    """Return every attention in *block*, in registration order."""
    cores = [core for path, child in block.named_modules() if (core := _core_of(path, child))]
    everything = linears(block)
    found = []
    for core in cores:
        taken = {join(core.path, name) for name in core.picks.values()}
        local = {p: w for p, w in everything.items() if core.path and inside(p, core.path)}
        o = _output_projection(local or everything, core, taken)
        container = core.path
        while (parent := parent_of(container)) and container:
            others = {p for p in everything if inside(p, parent) and not inside(p, container)}
            fits = {p for p in others if o is None and everything[p][1] == core.hidden}
            if (
                others - fits
                or len(fits) > 1
                or any(c is not core and inside(c.path, parent) for c in cores)
            ):
                break
            o = next(iter(fits), o)
            container = parent
        if o is None and core.path:
            o = _output_beside(everything, core, cores)
        picks = {point: join(core.path, name) for point, name in core.picks.items()}
        found.append(Attention(core.path, container, core.hidden, o=o, **picks))
    return found


def _output_projection(
    candidates: dict[str, tuple[int, int]], core: _Core, taken: set[str]
) -> str | None:
    fitting = [p for p, (_, out) in candidates.items() if out == core.hidden and p not in taken]
    for path in fitting:
        if {part.lower() for part in path.removeprefix(core.path).split(".")} & O_NAMES:
            return path
    return None


def _output_beside(
    everything: dict[str, tuple[int, int]], core: _Core, cores: list[_Core]
) -> str | None:
    """An output projection that lies beside the core, directly in the block."""
    home = parent_of(core.path)
    for path, (_, out) in everything.items():
        name = path.rpartition(".")[2].lower()
        if parent_of(path) == home and out == core.hidden and name in O_NAMES - {"dense", "fc"}:
            return path if len(cores) == 1 else None
    return None


def children_with_weights(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the direct children that own matrices."""
    for name, child in block.named_children():
        if any(p.dim() > 1 for p in child.parameters()):
            yield name, child
