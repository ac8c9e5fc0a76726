"""Whole compositions, saved and loaded into a fresh model: same structure, same outputs, heads along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import adapterhub
from adapterhub import (
    Average,
    BatchSplit,
    Fuse,
    MultiTask,
    Parallel,
    Route,
    Split,
    Stack,
)
from adapterhub.errors import AdapterHubError, CheckpointError
from tests import tiny
from tests.rules.families import METHODS

SETUPS: dict[str, tuple[Any, dict[str, Any]]] = {
    "stack": (Stack("a", "b"), {}),
    "fuse": (Fuse("a", "b", "c"), {}),
    "split": (Split("a", "b", splits=[3, 4]), {}),
    "batch_split": (BatchSplit("a", None, "b", batch_sizes=[1, 1, 1]), {}),
    "parallel": (Parallel("a", "b"), {}),
    "average": (Average("a", "b", weights=[0.8, 0.4]), {}),
    "sum": (Average("a", "b", weights=[1, 1], normalize_weights=False), {}),
    "multi_task": (MultiTask("a", "b"), {"task_ids": torch.tensor([0, 1, 0])}),
    "route": (Route("a", "b", "c"), {"adapter_rows": ["b", None, "c"]}),
    "parallel on a stack": (Stack("a", Parallel("b", Stack("c", "a"))), {}),
    "fuse on a stack": (Stack("a", Fuse("b", "c", name="both of them")), {}),
    "parallel fuse": (Stack("c", Parallel("a", "b", Fuse("a", "b"))), {}),
    "split of averages": (Split(Average("a", "b"), Stack("b", "c"), splits=[3, 4]), {}),
}
BLOCKS_OF = {
    "seq_bn_inv": tuple(SETUPS),
    "lora": tuple(SETUPS),
    "prefix_tuning": (
        "stack",
        "batch_split",
        "parallel",
        "average",
        "multi_task",
        "route",
        "parallel on a stack",
    ),
    "loreft": ("stack", "split", "parallel", "average", "route", "fuse"),
    "prompt_tuning": ("stack", "parallel", "route"),
}
CELLS = [(method, setup) for method, setups in BLOCKS_OF.items() for setup in setups]


def fresh(method: str, *names: str, flexible: bool = False, seed: int = 0) -> Any:
    """Return BERT with the named adapters, all different."""
    torch.manual_seed(0)
    model = tiny.bert()
    if flexible:
        base, model = model, adapterhub.BertAdapterModel(model.config).eval()
        model.bert.load_state_dict(base.state_dict())
    model = adapterhub.init(model)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        model.add_adapter(name, config=METHODS[method])
        for parameter in model.adapter_handle.iter_parameters(name):
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def fused(model: Any, tree: Any) -> None:
    """Add the fusion layers of a tree, with weights that matter."""
    if isinstance(tree, Fuse) and tree.name not in model.adapter_handle.engine.fusions:
        model.add_adapter_fusion(tree)
        for parameter in model.adapter_handle.engine.fusions[tree.name].parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    for child in tree if isinstance(tree, adapterhub.AdapterCompositionBlock) else ():
        fused(model, child)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=5e-6)


@pytest.mark.parametrize(("method", "setup"), CELLS)
def test_setups(tmp_path: Path, method: str, setup: str) -> None:
    tree, options = SETUPS[setup]
    model = fresh(method, "a", "b", "c")
    fused(model, tree)
    model.set_active_adapters(tree)
    expected = tiny.run(model, tiny.tokens(), **options)
    for safetensors in (True, False):
        folder = tmp_path / str(safetensors)
        model.save_adapter_setup(folder, tree, use_safetensors=safetensors)
        kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert kinds == {".json", ".safetensors" if safetensors else ".bin"}
        other = fresh(method)
        loaded, heads = other.load_adapter_setup(folder, set_active=True)
        assert (loaded, heads) == (tree, None)
        assert other.active_adapters == model.active_adapters
        same(tiny.run(other, tiny.tokens(), **options), expected)


@pytest.mark.parametrize("method", METHODS)
def test_all_adapters_and_their_averages(tmp_path: Path, method: str) -> None:
    model = fresh(method, "a", "b")
    model.average_adapter("mean", ["a", "b"], weights=[0.3, 0.7])
    model.save_all_adapters(tmp_path / "all", use_safetensors=False)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["a", "b", "mean"]
    other = fresh(method)
    for name in ("a", "b", "mean"):
        assert other.load_adapter(tmp_path / "all" / name) == name
        model.set_active_adapters(name)
        other.set_active_adapters(name)
        same(tiny.run(other, tiny.tokens()), tiny.run(model, tiny.tokens()))


def test_all_fusions(tmp_path: Path) -> None:
    model = fresh("seq_bn", "a", "b", "c")
    for tree in (Fuse("a", "b"), Fuse("a", "b", "c"), Fuse("c", "b", name="named")):
        fused(model, tree)
    model.save_all_adapters(tmp_path / "adapters")
    model.save_all_adapter_fusions(tmp_path / "fusions", use_safetensors=False)
    assert (tmp_path / "fusions" / "named" / "pytorch_model_adapter_fusion.bin").is_file()
    other = fresh("seq_bn")
    for name in "abc":
        other.load_adapter(tmp_path / "adapters" / name)
    for name in ("a,b", "a,b,c", "named"):
        other.load_adapter_fusion(tmp_path / "fusions" / name, set_active=True)
        model.set_active_adapters(other.active_adapters)
        same(tiny.run(other, tiny.tokens()), tiny.run(model, tiny.tokens()))


def test_fusion_under_another_name(tmp_path: Path) -> None:
    model = fresh("seq_bn", "a", "b")
    fused(model, Fuse("a", "b"))
    model.set_active_adapters(Fuse("a", "b"))
    expected = tiny.run(model, tiny.tokens())
    model.save_adapter_fusion(tmp_path / "f", ["a", "b"])
    assert model.load_adapter_fusion(tmp_path / "f", load_as="again", set_active=True) == "again"
    same(tiny.run(model, tiny.tokens()), expected)


def test_heads_of_a_setup(tmp_path: Path) -> None:
    model = fresh("seq_bn", "a", "b", "lang", flexible=True)
    for name in ("a", "b", "apart"):
        model.add_classification_head(name, num_labels=3)
    tree = Stack("lang", Parallel("a", "b"))
    model.set_active_adapters(tree)
    model.active_head = ["a", "apart"]
    expected = model(tiny.tokens())
    model.save_adapter_setup(tmp_path / "s", tree, head_setup=["a", "apart"])
    other = fresh("seq_bn", flexible=True)
    loaded, heads = other.load_adapter_setup(tmp_path / "s", set_active=True)
    assert (loaded, heads) == (tree, ["a", "apart"])
    assert set(other.heads) == {"a", "b", "apart"}
    assert other.active_head == ["a", "apart"]
    found = other(tiny.tokens())
    for i in range(2):
        same(found[i].logits, expected[i].logits)
    bare = fresh("seq_bn", flexible=True)
    bare.load_adapter_setup(tmp_path / "s", with_head=False)
    assert not bare.heads


def test_batch_split_heads_of_a_setup(tmp_path: Path) -> None:
    model = fresh("lora", "a", "b", flexible=True)
    for name in "ab":
        model.add_classification_head(name)
    tree = BatchSplit("a", "b", batch_sizes=[1, 2])
    model.set_active_adapters(tree)
    expected = model(tiny.tokens()).logits
    model.save_adapter_setup(tmp_path / "s", tree, head_setup=tree)
    other = fresh("lora", flexible=True)
    assert other.load_adapter_setup(tmp_path / "s", set_active=True) == (tree, tree)
    same(other(tiny.tokens()).logits, expected)


def test_the_head_of_a_task_class_goes_with_a_setup(tmp_path: Path) -> None:
    first = adapterhub.init(tiny.bert(tf.BertForSequenceClassification))
    first.add_adapter("a")
    torch.nn.init.normal_(first.classifier.weight)
    first.set_active_adapters("a")
    first.save_adapter_setup(tmp_path / "s", "a", head_setup=True)
    assert (tmp_path / "s" / "head_config.json").is_file()
    second = adapterhub.init(tiny.bert(tf.BertForSequenceClassification))
    torch.nn.init.zeros_(second.classifier.weight)
    assert second.load_adapter_setup(tmp_path / "s", set_active=True) == (Stack("a"), True)
    same(tiny.run(second, tiny.tokens()), tiny.run(first, tiny.tokens()))


def test_a_setup_is_loaded_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    model = fresh("seq_bn", "a", "b", "c")
    fused(model, Fuse("b", "c"))
    tree = Stack("a", Fuse("b", "c"))
    model.save_adapter_setup(tmp_path / "s", tree)
    (tmp_path / "s" / "b,c" / "model_adapter_fusion.safetensors").write_bytes(b"not this")
    other = fresh("lora", "a", seed=5)
    other.set_active_adapters("a")
    before = tiny.run(other, tiny.tokens())
    with pytest.raises(CheckpointError, match="damaged"):
        other.load_adapter_setup(tmp_path / "s", set_active=True)
    assert list(other.adapter_handle.adapters) == ["a"]
    assert other.active_adapters == Stack("a")
    same(tiny.run(other, tiny.tokens()), before)
    with pytest.raises(AdapterHubError):
        model.save_adapter_setup(tmp_path / "t", Stack("a", "missing"))
    assert not (tmp_path / "t").exists()


def test_loaders_of_ones_own_files_see_every_part(tmp_path: Path) -> None:
    class Notes:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def save(self, folder: str, name: str) -> None:
            (Path(folder) / "note.txt").write_text(name)

        def load(self, folder: str, **options: Any) -> None:
            self.seen.append(f"{options['main_load_name']}={Path(folder, 'note.txt').read_text()}")

    model, notes = fresh("seq_bn", "a", "b"), Notes()
    model.save_adapter_setup(tmp_path / "s", Stack("a", "b"), custom_weights_loaders=[notes])
    model.load_adapter_setup(tmp_path / "s", custom_weights_loaders=[notes])
    assert notes.seen == ["a=a", "b=b"]
    model.save_all_adapters(tmp_path / "all", custom_weights_loaders=[notes])
    assert (tmp_path / "all" / "b" / "note.txt").read_text() == "b"
