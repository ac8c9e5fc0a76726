"""Every block and three nested trees, over every method and every family of the table.

Where rows are concerned, a composition equals what its parts give alone. Where a block has no meaning
for a method, activation raises one error; which cells these are follows from what the methods declare
(``docs/compositions.md`` lists them).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapterhub
from adapterhub import Average, BatchSplit, Fuse, MultiTask, Parallel, Route, Split, Stack
from adapterhub.composition import names_in
from adapterhub.errors import CompositionError
from tests.rules.families import FAMILIES, GATED, METHODS
from tests.rules.test_rules import output, randomize

CLOSE = {"rtol": 0, "atol": 5e-5}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


def ready(family_name: str, method: str) -> Any:
    model = adapterhub.init(FAMILIES[family_name].model())
    for name in ("a", "b", "c"):
        model.add_adapter(name, config=METHODS[method])
    randomize(model, "a", "b", "c")
    return model


def meaningless(model: Any, block: str) -> bool:
    """Whether *block* has no meaning for the adapters of this model, by what their families declare."""
    record = model.adapter_handle.engine.adapters["a"]
    families = {module.family for module in record.modules.values()}
    if block == "Split":
        return any(family.prompts for family in families)
    if block == "Fuse":
        return any(not family.fusable and not family.stack_first_only for family in families)
    if block == "Stack":  # a chain needs square projections
        sites = model.adapter_handle.engine.resolved.sites
        return any(
            getattr(module, "chains", False) and sites[key].in_features != sites[key].out_features
            for key, module in record.modules.items()
        )
    return False


def run(model: Any, setup: Any, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    model.set_active_adapters(setup)
    return output(model, {**inputs, **options})


def rows(inputs: dict[str, Any], index: int) -> dict[str, Any]:
    return {name: value[index : index + 1] for name, value in inputs.items()}


def line_up(parts: list[torch.Tensor]) -> torch.Tensor:
    """Put rows together; those without a prompt are shorter, at their beginning."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([part[:, part.shape[1] - longest :] for part in parts])


CELLS = [(family, method) for family in FAMILIES for method in METHODS]


@pytest.mark.parametrize(("family_name", "method"), CELLS)
def test_blocks(family_name: str, method: str) -> None:
    family, model = FAMILIES[family_name], ready(family_name, method)
    inputs = family.inputs()
    alone = {name: run(model, name, inputs) for name in ("a", "b", "c")}
    assert (alone["a"] - alone["b"]).abs().max() > 1e-4
    by_row = torch.cat([alone["b"][:1], alone["c"][1:2], alone["a"][2:]])

    found = run(model, Parallel("a", "b"), inputs)
    torch.testing.assert_close(found, torch.cat([alone["a"], alone["b"]]), **CLOSE)
    found = run(model, BatchSplit("b", "c", "a", batch_sizes=1), inputs)
    torch.testing.assert_close(found, by_row, **CLOSE)
    found = run(model, Route("a", "b", "c"), inputs, adapter_rows=["b", "c", "a"])
    torch.testing.assert_close(found, by_row, **CLOSE)
    found = run(model, Average("a", "b", weights=[1.0, 0.0]), inputs)
    torch.testing.assert_close(found, alone["a"], **CLOSE)
    mean = run(model, Average("a", "b"), inputs)
    assert (mean - alone["a"]).abs().max() > 1e-5
    both = run(model, MultiTask("a", "b"), inputs, task_ids=torch.tensor([0, 1, 0]))
    again = run(model, MultiTask("a", "b"), inputs, task_ids=["a", "b", "a"])
    torch.testing.assert_close(both, again, rtol=0, atol=0)
    other = run(model, MultiTask("a", "b"), inputs, task_ids=torch.tensor([1, 1, 1]))
    assert (both[0] - other[0]).abs().max() > 1e-5

    if meaningless(model, "Stack"):
        with pytest.raises(CompositionError, match="chain"):
            model.set_active_adapters(Stack("a", "b"))
    else:
        assert torch.isfinite(run(model, Stack("a", "b"), inputs)).all()


@pytest.mark.parametrize(("family_name", "method"), CELLS)
def test_split_and_fuse(family_name: str, method: str) -> None:
    family, model = FAMILIES[family_name], ready(family_name, method)
    inputs = family.inputs()
    if family.encoder_decoder:  # one length for both stacks
        inputs["decoder_input_ids"] = inputs["input_ids"]
    alone = run(model, "a", inputs)
    length = 5 if family.image else 6
    setup = Split("a", "a", splits=[2, length - 2])
    if meaningless(model, "Split"):
        with pytest.raises(CompositionError, match="Split"):
            run(model, setup, inputs)
    else:
        found = run(model, setup, inputs)
        if method not in (*GATED, "loreft"):  # (a gate is a mean over the part it sees)
            torch.testing.assert_close(found, alone, **CLOSE)
        other = run(model, Split("b", "a", splits=[2, length - 2]), inputs)
        assert (other - alone).abs().max() > 1e-5
    try:
        model.add_adapter_fusion(["a", "b"])
        model.train_adapter_fusion(Fuse("a", "b"))
    except (CompositionError, adapterhub.AdapterHubError):
        assert meaningless(model, "Fuse")
        return
    assert not meaningless(model, "Fuse")
    model.eval()
    model(**inputs)[0].pow(2).sum().backward()
    trained = [p for n, p in model.named_parameters() if ".fusions." in n]
    assert trained
    assert all(p.grad is not None for p in trained)


TREES = (
    lambda: Stack("c", Parallel("a", "b", Average("a", "b"))),
    lambda: Parallel(Stack("a", "b"), BatchSplit("b", Average("a", "c"), None, batch_sizes=1), "c"),
    lambda: BatchSplit(Average("a", "b"), Route("a", "b"), Stack("a", "c"), batch_sizes=1),
)


@pytest.mark.parametrize("number", range(len(TREES)))
@pytest.mark.parametrize(("family_name", "method"), CELLS)
def test_nested_trees(family_name: str, method: str, number: int) -> None:
    family, model = FAMILIES[family_name], ready(family_name, method)
    if method == "prompt_tuning" and number:
        pytest.skip("rows with prompts of unequal length have no common output length to compare")
    inputs, tree = family.inputs(), TREES[number]()
    if meaningless(model, "Stack"):
        with pytest.raises(CompositionError, match="chain"):
            model.set_active_adapters(tree)
        return
    one = torch.tensor([1, 1, 1])
    found = run(model, tree, inputs, **({"adapter_rows": one} if number == 2 else {}))
    # Every block prepares the input of its children, so the parts are wrapped as deep as in the tree.
    if number == 0:
        parts = [
            run(model, Stack("c", Parallel(part)), inputs) for part in tree.children[1].children
        ]
    elif number == 1:
        stack, split, last = tree.children
        middle = [
            run(model, Parallel(BatchSplit(part, batch_sizes=1)), rows(inputs, index))
            for index, part in enumerate(split.children)
        ]
        first, last = run(model, Parallel(stack), inputs), run(model, Parallel(last), inputs)
        parts = [first, *middle, last]
    else:
        average, _, stack = tree.children
        parts = [
            run(model, BatchSplit(part, batch_sizes=1), rows(inputs, index))
            for index, part in enumerate((average, Route("b"), stack))
            if index != 1
        ]
        middle = run(
            model, BatchSplit(Route("a", "b"), batch_sizes=1), rows(inputs, 1), adapter_rows=one[:1]
        )
        parts.insert(1, middle)
    torch.testing.assert_close(found, torch.cat(parts), **CLOSE)


@pytest.mark.parametrize(("family_name", "method"), CELLS)
def test_training_through_a_nested_tree(family_name: str, method: str) -> None:
    """Several channels, one backward pass: gradients on every adapter of the tree and nothing else."""
    family, model = FAMILIES[family_name], ready(family_name, method)
    tree = Parallel("a", Average("b", "c"))
    model.train_adapter(tree)
    model.eval()
    model(**family.inputs())[0].pow(2).sum().backward()
    wanted = {
        id(p) for name in set(names_in(tree)) for p in model.adapter_handle.iter_parameters(name)
    }
    found = {id(p) for p in model.parameters() if p.grad is not None}
    assert found == wanted
