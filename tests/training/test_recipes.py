"""Recipes, measurements, tables and pictures on a tiny model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub import Parallel
from adapterhub.training import plots, recipes, report
from adapterhub.training.evaluate import PeakMemory, Result, Score, accuracy, predict_logits
from adapterhub.training.features import EncodedTexts
from adapterhub.training.fusion import mean_attention
from adapterhub.training.recipes import ADAPTER, FULL, HEAD, RECIPES, Budget
from adapterhub.training.sampler import SeededLengthGroups

BUDGET = Budget(4, batch_size=8, evaluations=2)


@pytest.fixture(scope="module")
def results(base: Path, task: Any) -> list[Result]:
    return [recipes.train(task, RECIPES[m], base, BUDGET).result for m in (HEAD, ADAPTER, FULL)]


def test_each_method_trains_what_it_says(results: list[Result]) -> None:
    head, adapter, full = results
    assert head.trainable == 16 * 2 + 2
    assert head.trainable < adapter.trainable < full.trainable
    assert full.trainable == full.total
    assert head.megabytes < full.megabytes
    assert all(result.seconds_per_step > 0 and result.peak_memory > 50 for result in results)
    assert [step for step, _ in adapter.curve] == [2, 4]


def test_the_same_seed_gives_the_same_run(base: Path, task: Any, results: list[Result]) -> None:
    again = recipes.train(task, RECIPES[ADAPTER], base, BUDGET).result
    assert again.curve == results[1].curve
    assert again.test == results[1].test


def test_results_survive_json_and_become_tables(results: list[Result]) -> None:
    data = json.loads(json.dumps([result.to_json() for result in results]))
    assert [Result.from_json(item) for item in data] == results
    cells = report.rows([*results, *results])
    assert [row[0] for row in cells] == ["head only", "seq_bn adapter", "full fine-tuning"]
    assert "seeds:" in cells[0][1]
    text = report.markdown_table(report.HEADER, cells)
    assert text.count("\n") == 5


def test_methods_see_the_same_batches_in_the_same_order() -> None:
    sampler = SeededLengthGroups(4, [n % 7 for n in range(50)], seed=3)
    first = list(sampler)
    torch.rand(5)
    assert list(sampler) == first, "the global random state does not matter"
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert sorted(sampler) == list(range(50))


def test_standard_error() -> None:
    assert Score(0.8, 100).standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / 100))
    assert str(Score(0.8, 100)) == "80.0 ± 4.0"
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [5.0, 1.0]])
    assert accuracy(logits, [0, 1, 1]) == Score(2 / 3, 3)


def test_predictions_come_back_in_order(model: Any, tokenizer: Any) -> None:
    model.add_classification_head("x", num_labels=3, layers=1)
    texts = ["the film was very very very good", "bad", "the plot was dull", "good film"]
    model.train()
    (together,) = predict_logits(model, tokenizer, texts, batch_size=2)
    assert model.training
    alone = torch.cat([predict_logits(model, tokenizer, [text])[0] for text in texts])
    torch.testing.assert_close(together, alone)
    assert predict_logits(model, tokenizer, []) == []


def test_parallel_gives_each_heads_logits(model: Any, tokenizer: Any) -> None:
    texts = ["good film", "the plot was dull"]
    for name in "ab":
        model.add_classification_head(name, num_labels=2, layers=1)
        model.add_adapter(name, config="double_seq_bn[reduction_factor=2]")
    single = []
    for name in "ab":
        model.set_active_adapters(name)
        single.append(predict_logits(model, tokenizer, texts)[0])
    model.set_active_adapters(Parallel("a", "b"))
    together = predict_logits(model, tokenizer, texts)
    assert len(together) == 2
    torch.testing.assert_close(together, single)


def test_fusion_over_saved_adapters(base: Path, task: Any, tmp_path: Path) -> None:
    folders = {}
    for seed, name in enumerate(("one", "two")):
        trained = recipes.train(task, RECIPES[ADAPTER], base, BUDGET, seed=seed)
        trained.model.save_adapter(tmp_path / name, task.name)
        folders[name] = tmp_path / name
    fused = recipes.train_fusion(task, folders, base, BUDGET)
    weights = mean_attention(fused.model, fused.tokenizer, task.test.texts)
    assert weights.shape == (2, 2)
    assert weights.sum(1) == pytest.approx(1)
    picture = tmp_path / "p" / "heat.png"
    plots.fusion_heat_map(weights, list(folders), picture, "t")
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_learning_curves(results: list[Result], tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    plots.learning_curves([*results, *results], picture, "t")
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_items_are_not_padded(tokenizer: Any, task: Any) -> None:
    data = EncodedTexts(tokenizer, task.train, max_length=5)
    assert len(data) == len(task.train)
    assert all(len(data[i]["input_ids"]) == n <= 5 for i, n in enumerate(data.lengths))
    assert data[0].keys() == {"input_ids", "attention_mask", "labels"}


def test_peak_memory_sees_a_large_array() -> None:
    with PeakMemory() as peak:
        block = torch.ones(20_000_000)
        assert block.sum() > 0
    with PeakMemory() as small:
        del block
    assert peak.megabytes > 80
    assert small.megabytes <= peak.megabytes + 40
