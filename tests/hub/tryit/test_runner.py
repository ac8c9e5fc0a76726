"""One batch for several adapters gives each text what its adapter alone would give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub import AutoAdapterModel
from adapterhub.hub.tryit.jobs import Job, Limits, TryError
from adapterhub.hub.tryit.runner import Runner
from tests.hub.tinymodels import LABELS

TEXTS = [
    "the film is good .",
    "Ada flew to London and Berlin",
    "bad",
    "a great , great film ! was it",
]


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(Limits(adapters=3))


def _job(models: Path, adapters: dict[str, Path], name: str, text: str, **more: Any) -> Job:
    base = models / ("llama" if name.startswith("llama") else "bert")
    return Job(base, f"k-{name}", adapters[name], text, name=f"@x/{name}", **more)


def _alone(models: Path, folder: Path, text: str) -> torch.Tensor:
    """Return the logits of one text from a model that has nothing but this adapter."""
    from transformers import AutoTokenizer

    model = AutoAdapterModel.from_pretrained(models / "bert").eval()
    name = model.load_adapter(str(folder), set_active=True)
    model.active_head = name
    encoded = AutoTokenizer.from_pretrained(models / "bert")(text, return_tensors="pt")
    with torch.no_grad():
        return model(**encoded).logits[0]


def test_a_batch_of_adapters_is_each_alone(
    runner: Runner, models: Path, adapters: dict[str, Path]
) -> None:
    names = ["lora-class", "bn-class", "ia3-tags", "bn-number"]
    jobs = [_job(models, adapters, n, t) for t in TEXTS for n in names]
    results = runner.run(jobs)
    for job, result in zip(jobs, results, strict=True):
        assert isinstance(result, dict), result
        assert result["batch"] == {"rows": 16, "adapters": 4}
        expected = _alone(models, job.folder, job.text)
        if result["kind"] == "classification":
            found = {item["label"]: item for item in result["labels"]}
            assert sorted(found) == sorted(LABELS)
            for index, label in enumerate(LABELS):
                assert found[label]["logit"] == pytest.approx(float(expected[index]), abs=1e-5)
                share = float(expected.softmax(-1)[index])
                assert found[label]["probability"] == pytest.approx(share, abs=1e-5)
        elif result["kind"] == "regression":
            assert result["value"] == pytest.approx(float(expected[0]), abs=1e-5)
        else:
            shares = expected.softmax(-1).max(-1).values.tolist()
            assert [w["probability"] for w in result["words"]] == pytest.approx(shares, abs=1e-5)
            said = [job.text[w["start"] : w["end"]] for w in result["words"]]
            assert said == job.text.split()


def test_generated_text_is_that_of_the_adapter_alone(
    runner: Runner, models: Path, adapters: dict[str, Path]
) -> None:
    jobs = [
        _job(models, adapters, name, text, new_tokens=number)
        for name, number in (("llama-one", 6), ("llama-two", 9))
        for text in TEXTS[:2]
    ]
    together = runner.run(jobs)
    alone = [Runner(Limits()).run([job])[0] for job in jobs]
    texts = [(r["kind"], r["text"]) for r in together if isinstance(r, dict)]
    assert texts == [(r["kind"], r["text"]) for r in alone if isinstance(r, dict)]
    assert len(texts) == 4
    assert all(kind == "generation" for kind, _ in texts)
    assert len({text for _, text in texts}) > 1


def test_one_that_cannot_be_run_does_not_spoil_the_others(
    runner: Runner, models: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    damaged = shutil.copytree(adapters["lora-class"], tmp_path / "damaged")
    (damaged / "adapter.safetensors").write_bytes(b"nothing")
    nan = shutil.copytree(adapters["bn-class"], tmp_path / "nan")
    from safetensors.torch import load_file, save_file

    head = load_file(nan / "model_head.safetensors")
    save_file(
        {k: torch.full_like(v, torch.nan) for k, v in head.items()}, nan / "model_head.safetensors"
    )
    other = shutil.copytree(adapters["lora-class"], tmp_path / "other")
    config = json.loads((other / "head_config.json").read_text())
    config["config"]["head_type"] = "ctc"
    (other / "head_config.json").write_text(json.dumps(config))
    base = models / "bert"
    jobs = [
        _job(models, adapters, "lora-class", TEXTS[0]),
        Job(base, "k-damaged", damaged, TEXTS[0], name="@x/damaged"),
        Job(base, "k-nan", nan, TEXTS[0], name="@x/nan"),
        Job(base, "k-other", other, TEXTS[0], name="@x/other"),
        _job(models, adapters, "headless", TEXTS[0]),
        Job(base, "k-gone", tmp_path / "gone", TEXTS[0], name="@x/gone"),
    ]
    good, damaged_, nan_, other_, headless, gone = runner.run(jobs)
    assert isinstance(good, dict)
    for result, said in (
        (damaged_, "cannot be loaded"),
        (nan_, "not a finite number"),
        (other_, "writes down speech"),
        (headless, "no prediction head"),
        (gone, "cannot be read"),
    ):
        assert isinstance(result, TryError)
        assert said in str(result)
        assert str(tmp_path) not in str(result)


def test_adapters_that_were_not_used_for_long_go(
    runner: Runner, models: Path, adapters: dict[str, Path]
) -> None:
    for name in ("lora-class", "bn-class", "ia3-tags", "bn-number"):
        assert isinstance(runner.run([_job(models, adapters, name, "good")])[0], dict)
    face = runner._faces[models / "bert", "heads"]
    assert list(face.adapters) == ["k-bn-class", "k-ia3-tags", "k-bn-number"]
    assert sorted(face.model.heads) == sorted(face.adapters)
    assert isinstance(runner.run([_job(models, adapters, "lora-class", "good")])[0], dict)


def test_a_text_that_is_too_long_is_cut_and_said_to_be(
    models: Path, adapters: dict[str, Path]
) -> None:
    runner = Runner(Limits(tokens=8))
    short, long = runner.run([_job(models, adapters, "lora-class", "good " * n) for n in (8, 9)])
    assert isinstance(short, dict)
    assert isinstance(long, dict)
    assert (short["cut"], long["cut"]) == (False, True)
    assert short["labels"][0]["logit"] == pytest.approx(long["labels"][0]["logit"], abs=1e-5)
