"""Every kind of head in the process that runs models: what it says is what its adapter alone would say."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub import AutoAdapterModel
from adapterhub.hub.tryit.jobs import Job, Limits, TryError
from adapterhub.hub.tryit.runner import Runner
from tests.hub.tinymodels import make_more_adapters, make_more_models

CONTEXT = "Ada flew to London and Berlin . it was a great film"


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_more_models(tmp_path_factory.mktemp("more"))


@pytest.fixture(scope="module")
def all_adapters(
    models: Path, more: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    made = make_more_adapters(models, more, tmp_path_factory.mktemp("more-adapters"))
    return {**adapters, **made}


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(Limits())


class Asker:
    """Makes jobs, and runs them."""

    def __init__(self, runner: Runner, bases: dict[str, Path], adapters: dict[str, Path]) -> None:
        self.runner, self.bases, self.adapters = runner, bases, adapters

    def base(self, name: str) -> Path:
        word = name.partition("-")[0]
        return self.bases.get(word, self.bases["bert"])

    def job(self, name: str, text: str = "", **more: Any) -> Job:
        return Job(
            self.base(name), f"k-{name}", self.adapters[name], text, name=f"@x/{name}", **more
        )

    def __call__(self, name: str, text: str = "", **more: Any) -> dict[str, Any]:
        (found,) = self.runner.run([self.job(name, text, **more)])
        assert isinstance(found, dict), found
        return found

    def refusal(self, name: str, text: str = "", **more: Any) -> str:
        (found,) = self.runner.run([self.job(name, text, **more)])
        assert isinstance(found, TryError)
        return str(found)

    def alone(self, name: str) -> tuple[Any, Any]:
        """Return a model that has nothing but this adapter, and its tokenizer."""
        from transformers import AutoTokenizer

        model = AutoAdapterModel.from_pretrained(self.base(name)).eval()
        adapter = model.load_adapter(str(self.adapters[name]), set_active=True)
        model.active_head = adapter
        return model, AutoTokenizer.from_pretrained(self.base(name))


@pytest.fixture(scope="module")
def ask(runner: Runner, models: Path, more: Path, all_adapters: dict[str, Path]) -> Asker:
    bases = {name: models / name for name in ("bert", "llama")}
    bases |= {name: more / name for name in ("t5", "vit")}
    return Asker(runner, bases, all_adapters)


def test_an_answer_is_the_likeliest_stretch_of_the_context(ask: Asker) -> None:
    found = ask("bert-answer", "was it great", context=CONTEXT)
    model, tokenizer = ask.alone("bert-answer")
    encoded = tokenizer("was it great", CONTEXT, return_tensors="pt")
    with torch.no_grad():
        output = model(**encoded)
    offsets = encoded.encodings[0].offsets
    first = encoded.encodings[0].sequence_ids.index(1)
    scores = {
        (a, b): float(output.start_logits[0, a] + output.end_logits[0, b])
        for a in range(first, len(offsets))
        for b in range(a, min(a + 30, len(offsets)))
    }
    total = torch.tensor(list(scores.values())).logsumexp(0)
    (a, b), score = max(scores.items(), key=lambda item: item[1])
    best = found["answers"][0]
    assert (best["start"], best["end"]) == (offsets[a][0], offsets[b][1])
    assert best["text"] == CONTEXT[best["start"] : best["end"]]
    assert best["probability"] == pytest.approx(float((score - total).exp()), abs=1e-5)
    assert found["none"] is None  # this tokenizer puts nothing before the question
    others = found["answers"]
    assert [x["probability"] for x in others] == sorted(x["probability"] for x in others)[::-1]
    assert all(
        x["end"] <= y["start"] or y["end"] <= x["start"] for x in others for y in others if x != y
    )


def test_a_long_context_is_cut_and_a_long_question_refused(ask: Asker) -> None:
    found = ask("bert-answer", "was it great", context=f"{CONTEXT} . " * 6)
    assert found["cut"] is True
    assert ask("bert-answer", "was it", context="good")["cut"] is False
    assert "question is too long" in ask.refusal("bert-answer", "good " * 30, context="a film")
    assert "context is empty" in ask.refusal("bert-answer", "was it great")


def test_choices_share_the_probability(ask: Asker) -> None:
    choices = ("good", "a bad film", "London and Berlin", "dull")
    found = ask("bert-choice", "the film is", choices=choices)
    assert [item["label"] for item in found["choices"]] == list(choices)
    assert sum(item["probability"] for item in found["choices"]) == pytest.approx(1)
    model, tokenizer = ask.alone("bert-choice")
    for item in found["choices"]:  # each as if it were the only one
        encoded = tokenizer("the film is", item["label"], return_tensors="pt")
        with torch.no_grad():
            output = model(**{key: value[:, None] for key, value in encoded.items()})
        assert item["logit"] == pytest.approx(float(output.logits[0, 0]), abs=1e-5)
    assert found["cut"] is False
    assert ask("bert-choice", "good " * 38, choices=("good", "a great film"))["cut"] is True
    assert "two to 5 choices" in ask.refusal("bert-choice", "the film is", choices=("good", " "))


def test_words_depend_on_words(ask: Asker) -> None:
    text = "Ada flew to London"
    found = ask("bert-parse", text)
    assert [word["text"] for word in found["words"]] == text.split()
    model, tokenizer = ask.alone("bert-parse")
    starts = torch.tensor([[0, 1, 2, 3, 4]])
    with torch.no_grad():
        output = model(**tokenizer(text, return_tensors="pt"), word_starts=starts)
    arcs = output.arc_preds[0, :4, :5]
    for number, word in enumerate(found["words"]):
        scores = arcs[number].clone()
        scores[number + 1] = -torch.inf
        assert word["head"] == int(scores.argmax()) != number + 1
        kind = int(output.rel_preds[0, number, word["head"]].argmax())
        assert word["relation"] == ["nsubj", "obj", "det"][kind]


def test_blanks_are_filled(ask: Asker) -> None:
    found = ask("bert-blank", "the ___ is [MASK] good")
    assert [(b["start"], b["end"]) for b in found["blanks"]] == [(4, 7), (11, 17)]
    model, tokenizer = ask.alone("bert-blank")
    with torch.no_grad():
        logits = model(**tokenizer("the [MASK] is [MASK] good", return_tensors="pt")).logits[0]
    for blank, position in zip(found["blanks"], (1, 3), strict=True):
        best = logits[position].softmax(-1).topk(5)
        assert [w["label"] for w in blank["words"]] == [
            tokenizer.decode([int(token)]) for token in best.indices
        ]
        assert [w["probability"] for w in blank["words"]] == pytest.approx(
            best.values.tolist(), abs=1e-5
        )
    for text in ("nothing is missing", "__ __ __ __ __"):
        assert "put ___ where a word is missing" in ask.refusal("bert-blank", text)


def test_labels_that_are_independent(ask: Asker) -> None:
    found = ask("bert-several", "the film is good")
    assert found["several"] is True
    for item in found["labels"]:
        expected = float(torch.tensor(item["logit"]).sigmoid())
        assert item["probability"] == pytest.approx(expected, abs=1e-6)


def test_all_kinds_over_one_base_share_a_batch(ask: Asker) -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("bert-answer", "was it great", {"context": CONTEXT}),
        ("bert-choice", "the film is", {"choices": ("good", "bad", "dull film")}),
        ("lora-class", "the film is good", {}),
        ("bert-parse", "Ada flew to London , and Berlin", {}),
        ("bert-blank", "the film is ___", {}),
        ("ia3-tags", "Ada flew", {}),
        ("bert-blank", "___ was", {}),
        ("bert-answer-two", "is it", {"context": "it is a film"}),
        ("bn-number", "great", {}),
    ]
    bad = ask.job("bert-blank", "nothing missing")
    *together, refused = ask.runner.run([*(ask.job(n, t, **m) for n, t, m in asked), bad])
    assert isinstance(refused, TryError)
    for (name, text, options), result in zip(asked, together, strict=True):
        assert isinstance(result, dict), result
        assert result["batch"] == {"rows": 10, "adapters": 8}
        alone = ask(name, text, **options)
        assert _rounded(result) == _rounded(alone), name


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items() if key != "batch"}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return pytest.approx(value, abs=2e-5) if isinstance(value, float) else value


def test_an_encoder_decoder_writes_another_text(ask: Asker) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    import adapterhub

    jobs = [
        ask.job(n, t, new_tokens=k)
        for n in ("t5-one", "t5-two")
        for t, k in (("a good film", 8), ("Ada", 3))
    ]
    together = ask.runner.run(jobs)
    texts = set()
    for job, found in zip(jobs, together, strict=True):
        assert isinstance(found, dict), found
        assert (found["kind"], found["continues"]) == ("generation", False)
        assert found["batch"] == {"rows": 4, "adapters": 2}
        model = AutoModelForSeq2SeqLM.from_pretrained(job.base).eval()
        adapterhub.init(model)
        model.load_adapter(str(job.folder), set_active=True)
        tokenizer = AutoTokenizer.from_pretrained(job.base)
        made = model.generate(
            **tokenizer(job.text, return_tensors="pt"),
            max_new_tokens=job.new_tokens,
            do_sample=False,
        )
        assert found["text"] == tokenizer.decode(made[0, 1:], skip_special_tokens=True)
        texts.add(found["text"])
    assert len(texts) > 1


@pytest.mark.parametrize("name", ["llama-own", "t5-own"])
def test_heads_of_ours_that_write_are_used(ask: Asker, name: str) -> None:
    found = ask(name, "the film is", new_tokens=6)
    model, tokenizer = ask.alone(name)
    encoded = tokenizer("the film is", return_tensors="pt")
    made = model.generate(
        input_ids=encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=0,
    )
    start = 1 if name == "t5-own" else 3
    assert found["continues"] is (name != "t5-own")
    assert found["text"] == tokenizer.decode(made[0, start:], skip_special_tokens=True)


@pytest.mark.parametrize("name", ["llama-one", "llama-own", "t5-one", "t5-own"])
def test_texts_of_all_lengths_are_continued_in_one_batch(ask: Asker, name: str) -> None:
    texts = ("bad", "Ada", "it was great", "a great , great film ! was it in London and Berlin")
    together = ask.runner.run([ask.job(name, text, new_tokens=8) for text in texts])
    alone = [ask(name, text, new_tokens=8)["text"] for text in texts]
    assert [found["text"] for found in together if isinstance(found, dict)] == alone
    assert len(set(alone)) > 1


def test_an_encoder_decoder_with_a_head_that_reads(ask: Asker) -> None:
    found = ask("t5-class", "the film is good .")
    model, tokenizer = ask.alone("t5-class")
    with torch.no_grad():
        logits = model(**tokenizer("the film is good .", return_tensors="pt")).logits[0]
    assert {i["label"]: i["logit"] for i in found["labels"]} == {
        f"LABEL_{n}": pytest.approx(float(logits[n]), abs=1e-5) for n in range(3)
    }


def _image(kind: str = "PNG", size: tuple[int, int] = (24, 20), colour: str = "red") -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, kind)
    return target.getvalue()


def _sent(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_images_are_classified(ask: Asker) -> None:
    pytest.importorskip("PIL", reason="images need Pillow")
    jobs = [
        ask.job("vit-class", image=_sent(_image(kind, colour=colour)))
        for kind, colour in (("PNG", "red"), ("JPEG", "blue"))
    ]
    jobs.append(ask.job("vit-class", image=_sent(_image()[:60])))
    red, blue, damaged = ask.runner.run(jobs)
    assert isinstance(red, dict), red
    assert isinstance(blue, dict), blue
    assert red["labels"][0]["logit"] != blue["labels"][0]["logit"]
    assert isinstance(damaged, TryError)
    from transformers import AutoImageProcessor

    from tests.hub.tinymodels import VIT

    assert VIT
    model = AutoAdapterModel.from_pretrained(ask.bases["vit"]).eval()
    name = model.load_adapter(str(ask.adapters["vit-class"]), set_active=True)
    model.active_head = name
    from PIL import Image

    pixels = AutoImageProcessor.from_pretrained(ask.bases["vit"])(
        images=Image.new("RGB", (24, 20), "red"), return_tensors="pt"
    )["pixel_values"]
    with torch.no_grad():
        logits = model(pixel_values=pixels).logits[0]
    for item in red["labels"]:
        assert item["logit"] == pytest.approx(float(logits[int(item["label"][-1])]), abs=1e-5)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the image is missing"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG or JPEG"),
        (b"GIF89a" + bytes(40), "no PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "no PNG or JPEG|damaged"),
    ],
)
def test_what_is_no_image(ask: Asker, data: bytes, said: str) -> None:
    pytest.importorskip("PIL", reason="images need Pillow")
    refused = ask.refusal("vit-class", image=_sent(data))
    assert any(part in refused for part in said.split("|"))


def test_a_small_file_with_many_pixels_is_not_unpacked(ask: Asker) -> None:
    pytest.importorskip("PIL", reason="images need Pillow")
    bomb = _image(size=(6000, 4000))
    assert len(bomb) < 100_000
    assert "6000 × 4000 pixels; up to 12 million" in ask.refusal("vit-class", image=_sent(bomb))


def test_what_is_too_much_is_refused_before_it_is_sent() -> None:
    limits = Limits()
    job = Job(Path(), "k", Path(), "a")
    job.require_within(limits)
    for more, said in (
        ({"text": "x" * 2001}, "text has more than 2000"),
        ({"context": "x" * 4001}, "context has more than 4000"),
        ({"choices": ("a",) * 6}, "more than 5 choices"),
        ({"choices": ("x" * 501,)}, "choice has more than 500"),
        ({"image": _sent(bytes((2 << 20) + 10))}, "more than 2 MB"),
    ):
        with pytest.raises(TryError, match=said):
            Job(**{**vars(job), **more}).require_within(limits)
    Job(**{**vars(job), "image": _sent(bytes(2 << 20))}).require_within(limits)
    assert Job.from_json(Job(**{**vars(job), "choices": ("a", "b")}).to_json()).choices == (
        "a",
        "b",
    )
