"""Composition: how several adapters act together, as an immutable tree.

A tree says *which* adapters take part and *how*: one after the other (:class:`Stack`), mixed by
learned attention (:class:`Fuse`), side by side on copies of the input (:class:`Parallel`), each on its
own rows (:class:`BatchSplit`, :class:`Route`, :class:`MultiTask`), each on its own positions
(:class:`Split`), or as a weighted mean (:class:`Average`). Leaves are adapter names. Blocks nest freely
wherever that has a meaning; where it has not, building the tree raises
:class:`~adapterhub.errors.CompositionError`.

Nothing here knows torch: the engine turns a tree into a plan for each place in the model.

Sources: Pfeiffer et al. 2020b (stacks, MAD-X), Pfeiffer et al. 2021 (fusion), Rücklé et al. 2021
(parallel), Poth et al. 2023, section 4 (blocks as a language).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Union

from adapterhub.errors import CompositionError

Node = Union[str, "AdapterCompositionBlock", None]


class AdapterCompositionBlock:
    """A node of the tree. Immutable and hashable; iterates over its children.

    Args:
        children: adapter names, blocks, or lists (a list stands for a :class:`Stack`).

    Raises:
        CompositionError: no children, or a child that is neither a name nor a block.
    """

    #: Whether ``None`` (the base model without an adapter) may be a child.
    allows_base: ClassVar[bool] = False

    __slots__ = ("children",)
    children: tuple[Node, ...]

    def __init__(self, *children: Any) -> None:
        if not children:
            raise CompositionError(
                f"{type(self).__name__}() needs at least one adapter name or block."
            )
        parsed = tuple(self._child(child) for child in children)
        object.__setattr__(self, "children", parsed)

    def _child(self, child: Any) -> Node:
        if child is None:
            if self.allows_base:
                return None
            raise CompositionError(
                f"{type(self).__name__} cannot hold None; only Route, BatchSplit and Parallel can "
                "give rows to the bare base model."
            )
        if isinstance(child, (str, AdapterCompositionBlock)):
            return child
        if isinstance(child, (list, tuple)):
            return Stack(*child)
        raise CompositionError(
            f"{type(self).__name__} holds adapter names and blocks, not {type(child).__name__}: {child!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; build a new one.")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self).__name__, self.children, self.options()))

    def __copy__(self) -> AdapterCompositionBlock:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> AdapterCompositionBlock:
        return self

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments beside the children, as the constructor takes them."""
        return {}

    def _key(self) -> tuple[Any, ...]:
        frozen = tuple(
            (k, tuple(v) if isinstance(v, (list, tuple)) else v) for k, v in self.options().items()
        )
        return (type(self).__name__, self.children, frozen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdapterCompositionBlock) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __iter__(self) -> Iterator[Node]:
        return iter(self.children)

    def __len__(self) -> int:
        return len(self.children)

    def __getitem__(self, index: int) -> Node:
        return self.children[index]

    def __contains__(self, name: object) -> bool:
        return name in self.flatten()

    def __repr__(self) -> str:
        parts = [repr(child) for child in self.children]
        parts += [f"{key}={value!r}" for key, value in self.options().items() if value is not None]
        return f"{type(self).__name__}({', '.join(parts)})"

    def flatten(self) -> set[str]:
        """Return the names of all adapters in the tree."""
        return set(names_in(self))

    def first(self) -> str:
        """Return the first adapter name in reading order."""
        return next(iter(names_in(self)))

    def last(self) -> str:
        """Return the last adapter name in reading order."""
        return list(names_in(self))[-1]

    @property
    def parallel_channels(self) -> int:
        """Into how many copies the input batch is replicated (1: not at all)."""
        return width(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form ``{"type", "children", "kwargs"}`` that setups are saved in."""
        return {
            "type": type(self).__name__,
            "children": [_node_to_dict(child) for child in self.children],
            "kwargs": self.options(),
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> AdapterCompositionBlock:
        """Rebuild a block from :meth:`to_dict`. Raises CompositionError for anything malformed."""
        node = _node_from_dict(data)
        if isinstance(node, AdapterCompositionBlock):
            return node
        return Stack(node)


class Stack(AdapterCompositionBlock):
    """Adapters one on top of the other: the output of the first is the input of the second."""

    __slots__ = ()


class Fuse(AdapterCompositionBlock):
    """AdapterFusion: the children's outputs, mixed by learned attention (Pfeiffer et al. 2021).

    Args:
        name: the name of the fusion layer; default: the children's names joined by commas.
    """

    __slots__ = ("_name",)
    _name: str | None

    def __init__(self, *children: Any, name: str | None = None) -> None:
        super().__init__(*children)
        object.__setattr__(self, "_name", name)

    @property
    def name(self) -> str:
        """The fusion layer's name."""
        if self._name:
            return self._name
        return ",".join(
            c if isinstance(c, str) else c.last() for c in self.children if c is not None
        )

    def options(self) -> dict[str, Any]:
        return {"name": self._name} if self._name else {}


class Split(AdapterCompositionBlock):
    """Each child works on its own stretch of the sequence.

    Args:
        splits: lengths in positions, one a child, or one int for all; their sum is the sequence length.
    """

    __slots__ = ("splits",)
    splits: tuple[int, ...]

    def __init__(self, *children: Any, splits: int | Sequence[int]) -> None:
        super().__init__(*children)
        object.__setattr__(self, "splits", _sizes(self, "splits", splits))

    def options(self) -> dict[str, Any]:
        return {"splits": list(self.splits)}


class BatchSplit(AdapterCompositionBlock):
    """Each child works on its own rows of the batch.

    Args:
        batch_sizes: numbers of rows, one a child, or one int for all; their sum is the batch size.
    """

    allows_base = True
    __slots__ = ("batch_sizes",)
    batch_sizes: tuple[int, ...]

    def __init__(self, *children: Any, batch_sizes: int | Sequence[int]) -> None:
        super().__init__(*children)
        object.__setattr__(self, "batch_sizes", _sizes(self, "batch_sizes", batch_sizes))

    def options(self) -> dict[str, Any]:
        return {"batch_sizes": list(self.batch_sizes)}


class Parallel(AdapterCompositionBlock):
    """Every child works on its own copy of the whole batch; outputs are stacked channel by channel."""

    allows_base = True
    __slots__ = ()


class Average(AdapterCompositionBlock):
    """The weighted mean of the children's outputs.

    Args:
        weights: one a child; default: equal weights.
        normalize_weights: divide the weights by their sum (default True).
    """

    __slots__ = ("normalize_weights", "weights")
    weights: tuple[float, ...]
    normalize_weights: bool

    def __init__(
        self,
        *children: Any,
        weights: Sequence[float] | None = None,
        normalize_weights: bool = True,
    ) -> None:
        super().__init__(*children)
        values = (
            [1.0 / len(children)] * len(children)
            if weights is None
            else [float(w) for w in weights]
        )
        if len(values) != len(children):
            raise CompositionError(
                f"Average has {len(children)} children but {len(values)} weights."
            )
        if normalize_weights:
            total = sum(values)
            if total == 0:
                raise CompositionError(
                    "Average cannot normalise weights whose sum is 0; pass normalize_weights=False."
                )
            values = [w / total for w in values]
        object.__setattr__(self, "weights", tuple(values))
        object.__setattr__(self, "normalize_weights", normalize_weights)

    def options(self) -> dict[str, Any]:
        return {"weights": list(self.weights), "normalize_weights": self.normalize_weights}


class Route(AdapterCompositionBlock):
    """Row by row, the caller says which child works: ``model(..., adapter_rows=[...])``.

    Each entry of ``adapter_rows`` is a child's index (or name), -1 (or ``None``) for the bare base
    model. Routing is data: another mix of rows needs no new plan and no recompilation.
    """

    allows_base = True
    __slots__ = ()


class MultiTask(Route):
    """:class:`Route` under the name and argument (``task_ids``) of multi-task training."""

    __slots__ = ()


BLOCKS: dict[str, type[AdapterCompositionBlock]] = {
    cls.__name__: cls
    for cls in (Stack, Fuse, Split, BatchSplit, Parallel, Average, Route, MultiTask)
}


def names_in(node: Node) -> Iterator[str]:
    """Yield the adapter names of a tree in reading order (repeated where they are)."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, AdapterCompositionBlock):
        for child in node.children:
            yield from names_in(child)


def width(node: Node) -> int:
    """Return how many copies of the batch the tree needs; the sum over Parallel children.

    Raises:
        CompositionError: Parallel inside a block that works on parts of one batch, or a Stack
            whose Parallel blocks differ in width.
    """
    if not isinstance(node, AdapterCompositionBlock):
        return 1
    widths = [width(child) for child in node.children]
    if isinstance(node, Parallel):
        return sum(widths)
    wide = {w for w in widths if w > 1}
    if isinstance(node, Stack):
        if len(wide) > 1:
            raise CompositionError(
                f"{node!r}: the Parallel blocks of one Stack must have equally many channels, "
                f"not {sorted(wide)}."
            )
        return max(widths)
    if wide:
        raise CompositionError(
            f"{node!r}: Parallel replicates the whole batch, so it cannot stand inside "
            f"{type(node).__name__}; put it outside, as in Parallel({type(node).__name__}(...), ...)."
        )
    return 1


def parse_composition(setup: Any, _level: int = 0) -> AdapterCompositionBlock | None:
    """Turn what users write into a block.

    A name or a list becomes a :class:`Stack`; a list inside a list becomes a :class:`Fuse` (the
    spelling of the 2020 library). ``None``, ``""`` and ``[]`` mean: no adapter.

    Raises:
        CompositionError: anything else, or a tree without a meaning.
    """
    if setup is None or setup == "" or (isinstance(setup, (list, tuple)) and not setup):
        return None
    if isinstance(setup, str):
        return Stack(setup)
    if isinstance(setup, AdapterCompositionBlock):
        validate_composition(setup)
        return setup
    if isinstance(setup, (list, tuple)):
        if _level == 1:
            return Fuse(*setup)
        items = [parse_composition(c, 1) if isinstance(c, (list, tuple)) else c for c in setup]
        return validate_composition(Stack(*items))
    raise CompositionError(
        f"An adapter setup is a name, a list or a composition block, not {type(setup).__name__}: {setup!r}"
    )


def validate_composition(block: AdapterCompositionBlock) -> AdapterCompositionBlock:
    """Check that the tree has a meaning as a whole; return it.

    Raises:
        CompositionError: see :func:`width`; or a :class:`Fuse` child without a single last adapter.
    """
    width(block)
    for node in _blocks(block):
        if isinstance(node, Fuse):
            for child in node.children:
                if isinstance(child, (Route, Split, BatchSplit, Parallel)):
                    raise CompositionError(
                        f"{node!r}: Fuse mixes whole outputs of its children, so a child can be a name, "
                        f"a Stack, an Average or a Fuse, not {type(child).__name__}."
                    )
    return block


def _blocks(node: Node) -> Iterator[AdapterCompositionBlock]:
    if isinstance(node, AdapterCompositionBlock):
        yield node
        for child in node.children:
            yield from _blocks(child)


def _sizes(
    block: AdapterCompositionBlock, label: str, value: int | Sequence[int]
) -> tuple[int, ...]:
    sizes = [value] * len(block.children) if isinstance(value, int) else list(value)
    if len(sizes) != len(block.children) or any(not isinstance(s, int) or s < 0 for s in sizes):
        raise CompositionError(
            f"{type(block).__name__} has {len(block.children)} children, so {label} must be "
            f"{len(block.children)} integers >= 0 (or one for all), not {value!r}."
        )
    return tuple(sizes)


def _node_to_dict(node: Node) -> dict[str, Any]:
    if isinstance(node, AdapterCompositionBlock):
        return node.to_dict()
    return {"type": "single", "children": [node]}


def _node_from_dict(data: Any) -> Node:
    if not isinstance(data, dict) or not isinstance(data.get("children"), list):
        raise CompositionError(f"Not a saved composition: {data!r}")
    kind = data.get("type")
    if kind == "single":
        name = data["children"][0] if data["children"] else None
        if name is not None and not isinstance(name, str):
            raise CompositionError(f"Not an adapter name in a saved composition: {name!r}")
        return name
    if kind not in BLOCKS:
        raise CompositionError(
            f"Unknown block '{kind}' in a saved composition; known: {', '.join(BLOCKS)}."
        )
    kwargs = data.get("kwargs") or {}
    try:
        return _rebuild(kind, [_node_from_dict(child) for child in data["children"]], kwargs)
    except TypeError as error:
        raise CompositionError(
            f"Bad arguments of {kind} in a saved composition: {kwargs!r}"
        ) from error


def _rebuild(
    kind: str, children: Iterable[Node], options: dict[str, Any]
) -> AdapterCompositionBlock:
    return BLOCKS[kind](*children, **options)
