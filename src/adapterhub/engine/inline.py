"""Keys and values in attentions that compute their scores themselves: :class:`Inline`.

An attention that does not call transformers' attention interface offers no place where a prefix could be
put before keys and values. But what it computes is known: scores S = Q Kᵀ, scaled, masked and biased,
P = softmax(S), output P V. With a prefix it has to be

    [P_p; P] = softmax([S_p; S])        output = P_p V_p + P V        S_p = Q K_pᵀ, scaled alike

so while such a module runs, a :class:`TorchFunctionMode` follows its scores: each tensor on the way from
Q Kᵀ to P V has a *companion* with the columns of the prefix. Scalings and casts act on both, masks and
biases of the real keys on the real columns only. An attention that cannot be followed to its end raises an
error; nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from adapterhub.errors import CompositionError

_SCALINGS = frozenset(
    ["mul", "div", "true_divide", "__mul__", "__rmul__", "__truediv__", "multiply", "divide"]
)
_SHIFTS = frozenset(["add", "sub", "__add__", "__radd__", "__sub__", "subtract"])
#: What does the same to every column, so that the companion takes part with the same arguments.
_ALIKE = frozenset(
    [
        "to",
        "float",
        "half",
        "type",
        "type_as",
        "bfloat16",
        "double",
        "dropout",
        "contiguous",
        "clone",
        "unsqueeze",
        "squeeze",
        "__getitem__",
        "permute",
        "transpose",
        "swapaxes",
        "tanh",
        "clamp",
        "nan_to_num",
        "dropout1d",
        "alpha_dropout",
    ]
)
#: What masks real columns only; the companion stays as it is.
_MASKS = frozenset(
    [
        "masked_fill",
        "where",
        "max",
        "maximum",
        "clamp_min",
        "baddbmm",
        "masked_fill_",
        "detach",
        "index_put",
    ]
)
_SHAPES = frozenset(["view", "reshape", "expand", "unflatten", "flatten"])
_PRODUCTS = frozenset(["matmul", "bmm", "__matmul__", "mm"])


_Prefix = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
_Bias = Callable[
    [torch.Tensor, int, "torch.Tensor | None"], "tuple[torch.Tensor, torch.Tensor] | None"
]


class Inline(TorchFunctionMode):
    """Follows one call of one attention module.

    Args:
        name: of the module's class, for messages.
        inputs: tensors that queries, keys and values are made of.
        prefix: given an empty (batch, heads, 0, width) key, returns the prefix's keys and values, each
            (batch, heads, P, width), and which positions a row has, (batch, P) or ``None`` for all; or
            ``None`` if there is no prefix.
        shape: heads and width of a key.
        bias: given scores with the model's own relative position bias, the prefix's length and which of its
            positions a row has, returns the bias of the prefix's columns and what to add to the scores;
            ``None`` if the attention has no such bias.
    """

    def __init__(
        self,
        name: str,
        inputs: list[torch.Tensor],
        prefix: Callable[[torch.Tensor], _Prefix | None],
        shape: tuple[int, int],
        bias: _Bias | None = None,
    ) -> None:
        super().__init__()
        self.name, self.prefix, self.shape, self.bias = name, prefix, shape, bias
        # Tensors are kept, so that their ids stay theirs.
        self.known = {id(tensor): tensor for tensor in inputs}
        self.companions: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        #: The prefix's values, (batch, heads, P, width).
        self.values: torch.Tensor | None = None
        self.valid: torch.Tensor | None = None
        #: What known tensors were multiplied by, where that was one number.
        self.factors: dict[int, torch.Tensor] = {}
        self.is_open = self.normalised = self.done = False

    def finish(self) -> None:
        """Check that the prefix has reached the output.

        Raises:
            CompositionError: it has not.
        """
        if not self.done:
            raise CompositionError(
                f"Prefix tuning cannot act in {self.name}: it does not call transformers' attention "
                "interface, and its scores could not be followed from the product of queries and keys to the "
                "values. Leave its layers out (leave_out), or use another method."
            )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.done:
            return func(*args, **kwargs)
        # (str, and no default: so dynamo sees a constant)
        name = str(func.__name__) if hasattr(func, "__name__") else ""
        if name == "scaled_dot_product_attention" and self._is_known(args[1:3], kwargs):
            return self._whole(func, args, kwargs)
        if name in _PRODUCTS or name in ("einsum", "baddbmm"):
            result = self._product(func, name, args, kwargs)
        else:
            result = func(*args, **kwargs)
            if isinstance(result, torch.Tensor) and (given := self._companion_in(args, kwargs)):
                result = self._follow(func, name, given, args, kwargs, result)
        if not isinstance(result, (torch.Tensor, tuple, list)):
            return result
        # (A matrix that multiplies from the right is a weight; dynamo cannot tell the id of a ``weight.T``.)
        known = [
            value
            for place, value in enumerate(_tensors(args, kwargs))
            if not (place and value.dim() == 2 and name in _PRODUCTS) and id(value) in self.known
        ]
        if known:
            for value in (result,) if isinstance(result, torch.Tensor) else result:
                if isinstance(value, torch.Tensor):
                    self.known[id(value)] = value
            if isinstance(result, torch.Tensor) and not self.is_open:
                self._note_factor(func, name, known[0], args, kwargs, result)
        return result

    def _note_factor(
        self,
        func: Any,
        name: str,
        value: torch.Tensor,
        args: tuple[Any, ...],
        kwargs: Any,
        result: torch.Tensor,
    ) -> None:
        """Keys may be scaled before the product; the prefix's keys have to be, too."""
        plain, factor = _plain(name), self.factors.get(id(value))
        if plain in _SCALINGS:
            others = [t for t in _tensors(args, kwargs) if t is not value]
            if all(t.numel() == 1 for t in others):
                one = value.new_ones(()) if factor is None else factor
                made = func(*_swap(args, value, one), **_swap_named(kwargs, value, one))
                self.factors[id(result)] = made.reshape(())
        elif factor is not None and (plain in _ALIKE or plain in _SHAPES):
            self.factors[id(result)] = factor

    # -- where the scores begin and end ------------------------------------------------------------

    def _product(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any) -> Any:
        tensors = _tensors(args, kwargs)
        a, b = (tensors[-2], tensors[-1]) if len(tensors) >= 2 else (None, None)
        if name == "einsum":
            return self._einsum(func, args, kwargs, tensors)
        result = func(*args, **kwargs)
        if a is None or b is None:
            return result
        if id(a) in self.companions:
            return self._mix(result, torch.matmul, a, b)
        if self._begins(a, b):
            keys = self._prefix_like(b.transpose(-1, -2), self.factors.get(id(b)))
            if keys is not None:
                scores = torch.matmul(a, keys.transpose(-1, -2))
                self._pair(result, scores * kwargs.get("alpha", 1) if name == "baddbmm" else scores)
        return result

    def _einsum(self, func: Any, args: tuple[Any, ...], kwargs: Any, tensors: list[Any]) -> Any:
        """Products written as sums over indices; the keys' index has to be the scores' last."""
        result = func(*args, **kwargs)
        equation = args[0] if args and isinstance(args[0], str) else ""
        if len(tensors) != 2 or "." in equation or "->" not in equation:
            return result
        (a, b), (given, out) = tensors, equation.replace(" ", "").split("->")
        left, right = given.split(",")
        ends = id(a) in self.companions
        if not ends and (self.is_open or not {id(a), id(b)} <= self.known.keys()):
            return result
        key = [c for c in right if (c not in out if ends else c not in left)]
        width = [c for c in right if (c not in left if ends else c not in out)]
        shared = [c for c in right if c in left and c in out]
        if (len(key), len(width), len(shared)) != (1, 1, 2) or (left if ends else out)[-1] != key[
            0
        ]:
            return result
        order = [[*shared, *key, *width].index(c) for c in right]
        if ends:
            if self.normalised and self.values is not None:
                self.done = True
                weights = self.companions[id(a)][1]
                result = result + func(args[0], weights, self.values.permute(order))
        elif b.shape[right.index(width[0])] == self.shape[1]:
            shown = b.permute([right.index(c) for c in [*shared, *key, *width]])
            keys = self._prefix_like(shown, self.factors.get(id(b)))
            if keys is not None:
                self._pair(result, func(args[0], a, keys.permute(order)))
        return result

    def _begins(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        """Whether ``a @ b`` is the product of queries and keys."""
        return (
            not self.is_open
            and a.dim() == b.dim() >= 3
            and b.shape[-2] == self.shape[1]
            and id(a) in self.known
            and id(b) in self.known
        )

    def _prefix_like(self, keys: torch.Tensor, factor: torch.Tensor | None) -> torch.Tensor | None:
        """The prefix's keys in the shape of *keys* (…, length, width); its values are noted."""
        heads, width = self.shape
        merged = keys.dim() == 3
        rows = keys.shape[0] // heads if merged else keys.shape[0]
        if merged and (keys.shape[0] % heads or not rows):
            return None
        made = self.prefix(keys.new_zeros(rows, heads, 0, width))
        self.is_open = True
        if made is None:
            self.done = True
            return None
        self.values, self.valid = made[1].to(keys.dtype), made[2]
        like = _fit(made[0].to(keys.dtype), keys)
        return like if factor is None else like * factor.to(keys.dtype)

    def _mix(
        self, result: torch.Tensor, multiply: Callable[..., torch.Tensor], a: Any, b: torch.Tensor
    ) -> torch.Tensor:
        """Add what the prefix's values contribute to an attention's output."""
        values, weights = self.values, self.companions[id(a)][1]
        if not self.normalised or values is None or values.shape[-1] != b.shape[-1]:
            return result
        self.done = True
        values = _fit(values.to(weights.dtype), b)
        return result + multiply(weights, values).to(result.dtype)

    def _whole(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> torch.Tensor:
        """A call of torch's own attention function."""
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        query: Any = given["query"]
        key: Any = given["key"]
        value: Any = given["value"]
        mask: Any = given.get("attn_mask")
        keys = self._prefix_like(key, self.factors.get(id(key)))
        if keys is None or self.values is None:
            return func(*args, **kwargs)
        length = keys.shape[-2]
        if given.pop("is_causal", False):
            mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=key.device)
            mask = mask.tril()
        if self.valid is not None:
            shown = self.valid[:, None, None].expand(-1, 1, query.shape[-2], -1)
            own = query.new_ones(1, 1, query.shape[-2], key.shape[-2], dtype=torch.bool)
            own = own if mask is None else mask
            if own.dtype != torch.bool:
                shown = torch.where(shown, 0.0, torch.finfo(own.dtype).min).to(own.dtype)
            rows = max(own.shape[0], shown.shape[0])
            mask = torch.cat([a.expand(rows, -1, -1, -1) for a in (shown, own)], -1)
        elif mask is not None:
            mask = F.pad(mask, (length, 0), value=True if mask.dtype == torch.bool else 0.0)
        given.update(
            key=torch.cat([keys, key], -2),
            value=torch.cat([_fit(self.values.to(value.dtype), value), value], -2),
            attn_mask=mask,
        )
        self.done = True
        return func(**given)

    # -- on the way --------------------------------------------------------------------------------

    def _follow(
        self,
        func: Any,
        name: str,
        given: tuple[torch.Tensor, torch.Tensor],
        args: tuple[Any, ...],
        kwargs: Any,
        result: torch.Tensor,
    ) -> torch.Tensor:
        scores, companion = given
        if name in ("softmax", "_softmax"):
            length = companion.shape[-1]
            companion = self._only_valid(companion)
            both = torch.cat([companion, scores], -1)
            whole = func(*_swap(args, scores, both), **_swap_named(kwargs, scores, both))
            self.normalised = True
            result = whole[..., length:]
            self._pair(result, whole[..., :length])
            return result
        plain = _plain(name)
        others = [t for t in _tensors(args, kwargs) if t is not scores]
        columns = scores.shape[-1]
        biased = plain in _SHIFTS and any(t.shape[-1:] == scores.shape[-1:] for t in others)
        if biased and self.bias is not None:
            changed = self.bias(result, companion.shape[-1], self.valid)
            self.bias = None  # it is added once
            if changed is not None:
                result = result + changed[1]
                companion = companion + changed[0]
        if plain in _SCALINGS or plain in _SHIFTS:
            narrow = all(t.dim() == 0 or t.shape[-1] == 1 for t in others) and columns != 1
            number = not others
            if narrow or number:
                self._again(func, plain, scores, companion, args, kwargs, result)
            else:
                self._pair(result, _stretch(companion, result))
        elif plain in _ALIKE:
            self._again(func, plain, scores, companion, args, kwargs, result)
        elif plain in _SHAPES and result.shape[-1] == columns:
            self._pair(result, companion.reshape(*result.shape[:-1], companion.shape[-1]))
        elif plain in _MASKS and result.shape[-1] == columns:
            self._pair(result, _stretch(companion, result))
        return result

    def _only_valid(self, companion: torch.Tensor) -> torch.Tensor:
        """Hide prefix positions that a row does not have."""
        if self.valid is None:
            return companion
        rows, length = self.valid.shape
        hidden = ~self.valid.view(rows, *([1] * (companion.dim() - 2)), length)
        if companion.shape[0] != rows:  # heads merged into the batch
            hidden = hidden.repeat_interleave(companion.shape[0] // rows, 0)
        return companion.masked_fill(hidden, torch.finfo(companion.dtype).min)

    def _again(
        self,
        func: Any,
        name: str,
        scores: torch.Tensor,
        companion: torch.Tensor,
        args: tuple[Any, ...],
        kwargs: Any,
        result: torch.Tensor,
    ) -> None:
        """Do to the companion what was done to the scores."""
        args, kwargs = _swap(args, scores, companion), _swap_named(kwargs, scores, companion)
        if name == "dropout" and "inplace" in kwargs:
            kwargs["inplace"] = False
        self._pair(result, func(*args, **kwargs))

    def _pair(self, tensor: torch.Tensor, companion: torch.Tensor) -> None:
        self.companions[id(tensor)] = (tensor, companion)

    def _companion_in(
        self, args: tuple[Any, ...], kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        found = (self.companions.get(id(value)) for value in _tensors(args, kwargs))
        return next((pair for pair in found if pair is not None), None)

    def _is_known(self, args: tuple[Any, ...], kwargs: Any) -> bool:
        keys = [*args, kwargs.get("key"), kwargs.get("value")]
        return not self.is_open and any(id(value) in self.known for value in keys)


def _plain(name: str) -> str:
    """A function's name without the marks of its in-place form."""
    if name.startswith("__"):
        return "__" + name[3:] if name.startswith("__i") else name
    return name.rstrip("_")


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += [item for item in value if isinstance(item, torch.Tensor)]
    return found


def _swap(args: tuple[Any, ...], old: torch.Tensor, new: torch.Tensor) -> tuple[Any, ...]:
    return tuple(new if value is old else value for value in args)


def _swap_named(kwargs: dict[str, Any], old: torch.Tensor, new: torch.Tensor) -> dict[str, Any]:
    return {name: new if value is old else value for name, value in kwargs.items()}


def _fit(tensor: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Bring (batch, heads, P, width) into the leading axes of *keys*."""
    if keys.dim() == 3:  # heads merged into the batch
        return tensor.reshape(-1, *tensor.shape[2:])
    while tensor.dim() < keys.dim():
        tensor = tensor.unsqueeze(2)
    if keys.dim() == 4 and keys.shape[1] != tensor.shape[1] and not keys.shape[1] % tensor.shape[1]:
        tensor = tensor.repeat_interleave(keys.shape[1] // tensor.shape[1], 1)
    return tensor


def _stretch(companion: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """Follow a broadcast of the scores to *result*'s leading axes."""
    shape = (*result.shape[:-1], companion.shape[-1])
    return companion if companion.shape == shape else companion.expand(shape)
