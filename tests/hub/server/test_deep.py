"""Adapters are checked against their base model before anybody sees them: names, shapes, a forward pass."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from transformers import BertConfig, BertModel

import adapterhub
from adapterhub.hub.verify.bases import Bases, table
from tests.hub.server.conftest import Hub, adapter_files

pytestmark = pytest.mark.slow  # each trial starts a process that imports torch and transformers

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
BASE = "tiny/bert"
SECONDS = 240.0
CARD = b"---\ntags: [untrained]\n---\n# Nothing yet\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("deep")
    place = root / "bases" / "tiny" / "bert"
    place.mkdir(parents=True)
    BertConfig(**SIZES).save_pretrained(place)
    made = Hub(root / "data", ADAPTERHUB_CHECKS="full", ADAPTERHUB_BASES=str(root / "bases"))
    yield made
    made.stop()


def model() -> Any:
    torch.manual_seed(2)
    made = BertModel(BertConfig(**SIZES)).eval()
    made.config._name_or_path = BASE
    return made


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ours(folder: Path, config: str = "seq_bn[reduction_factor=4]", *, trained: bool = True) -> Any:
    made = model()
    adapterhub.init(made)
    made.add_adapter("a", config=config)
    made.train_adapter("a")
    for weight in made.parameters():
        if trained and weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    made.save_adapter(folder, "a")
    return files_of(folder)


def peft_files(folder: Path) -> dict[str, bytes]:
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():  # PEFT asks the model for something by its old name
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=2, target_modules=["query", "value"])
        made = peft.get_peft_model(model(), config)
    for weight in made.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    made.peft_config["default"].base_model_name_or_path = BASE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.save_pretrained(folder)
    return files_of(folder)


def settled(hub: Hub, repo: str) -> Any:
    """Wait until the checks of the tip have ended; return what the API says about them."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        answer = hub.ask("GET", f"/api/hub/v1/repos/{repo}/checks").json
        if answer["status"] != "pending":
            return answer
        time.sleep(0.2)
    raise AssertionError(f"the checks did not end: {answer}")


def outcomes(answer: Any) -> dict[str, tuple[str, str]]:
    return {
        row["check"]: (row["outcome"], row["message"])
        for row in answer["checks"]
        if row["check"] in ("architecture", "forward", "duplicates")
    }


@pytest.fixture
def publish(hub: Hub) -> Callable[..., tuple[str, Any]]:
    """Return ``publish(files)``: commit them to a new repository; its name, and the settled checks."""

    def run(files: dict[str, bytes]) -> tuple[str, Any]:
        repo = hub.new_name()
        hub.create(repo)
        made = hub.commit(repo, files)
        assert made.status == 200, made
        return repo, settled(hub, repo)

    return run


def test_nobody_sees_it_before_it_ran(hub: Hub, tmp_path: Path) -> None:
    files = ours(tmp_path / "a")
    repo = hub.new_name()
    hub.create(repo)
    made = hub.commit(repo, files)
    assert made.json["status"] == "pending"
    assert "under way" in made.headers["x-hf-warning"]
    assert hub.ask("GET", f"/api/models/{repo}", token=None).status == 404
    assert hub.ask("GET", f"/api/models/{repo}").status == 200
    answer = settled(hub, repo)
    assert answer["status"] == "verified", answer
    found = outcomes(answer)
    assert found["architecture"][0] == found["forward"][0] == "ok"
    assert hub.ask("GET", f"/api/models/{repo}", token=None).status == 200
    # Another card changes nothing about the weights, so what is known about them is known.
    again = hub.commit(repo, {"README.md": b"# New\n"})
    assert again.json["status"] == "verified"
    answer = hub.ask("GET", f"/api/hub/v1/repos/{repo}/checks").json
    assert outcomes(answer) == found
    # On demand all runs again, and what is published stays so meanwhile.
    assert hub.ask("POST", f"/api/hub/v1/repos/{repo}/checks", {}).status == 202
    deadline = time.monotonic() + SECONDS
    before, now = [row["checked"] for row in answer["checks"]], []
    while time.monotonic() < deadline and now in ([], before):
        assert hub.ask("GET", f"/api/models/{repo}", token=None).status == 200
        time.sleep(0.2)
        answer = hub.ask("GET", f"/api/hub/v1/repos/{repo}/checks").json
        now = [row["checked"] for row in answer["checks"]]
    assert now != before
    assert answer["status"] == "verified"
    assert outcomes(answer) == found


def rename(files: dict[str, bytes], weights: str, change: Callable[[str], str | None]) -> None:
    tensors = {}
    for name, value in load(files[weights]).items():
        new = change(name)
        if new is not None:
            tensors[new] = value
    files[weights] = save(tensors)


def test_wrong_names_are_refused(publish: Callable[..., Any], hub: Hub, tmp_path: Path) -> None:
    files = ours(tmp_path / "a")
    rename(files, "adapter.safetensors", lambda name: name.replace("encoder.", "model.encoder."))
    repo, answer = publish(files)
    assert answer["status"] == "rejected"
    assert "unexpected: " in answer["reason"]
    assert "missing: encoder.layer.0." in answer["reason"]
    assert BASE in answer["reason"]
    assert outcomes(answer)["forward"] == ("skipped", "not run: the tensors do not fit")
    assert hub.ask("GET", f"/api/models/{repo}", token=None).status == 404


def test_missing_modules_are_refused(publish: Callable[..., Any], tmp_path: Path) -> None:
    files = ours(tmp_path / "a", "lora[r=2]")
    rename(files, "adapter.safetensors", lambda name: None if "layer.1." in name else name)
    _, answer = publish(files)
    assert answer["status"] == "rejected"
    assert "missing: encoder.layer.1." in answer["reason"]
    assert "layer.0." not in answer["reason"]


def test_wrong_shapes_and_width(publish: Callable[..., Any], tmp_path: Path) -> None:
    files = ours(tmp_path / "a")
    info = json.loads(files["adapter_config.json"])
    wide = {**info, "hidden_size": 768}
    _, answer = publish({**files, "adapter_config.json": json.dumps(wide).encode()})
    assert answer["status"] == "rejected"
    assert "width 768, but it has 16" in answer["reason"]
    info["config"]["reduction_factor"] = 2
    _, answer = publish({**files, "adapter_config.json": json.dumps(info).encode()})
    assert answer["status"] == "rejected"
    assert "in the file, " in answer["reason"]


def test_without_effect(publish: Callable[..., Any], tmp_path: Path) -> None:
    files = ours(tmp_path / "a", "lora[r=2]", trained=False)
    _, answer = publish(files)
    assert answer["status"] == "rejected"
    assert "the adapter does nothing" in answer["reason"]
    _, answer = publish({**files, "README.md": CARD})
    assert answer["status"] == "verified"
    assert outcomes(answer)["forward"] == ("warning", "it does nothing, as its card says")


def test_unknown_base_is_not_a_pass(publish: Callable[..., Any]) -> None:
    _, answer = publish(adapter_files(model="somebody/unknown-model"))
    assert answer["status"] == "verified"
    for outcome, message in (outcomes(answer)[name] for name in ("architecture", "forward")):
        assert outcome == "skipped"
        assert message == (
            "not checked: this hub knows nothing of the base model 'somebody/unknown-model'"
        )


def test_peft(publish: Callable[..., Any], tmp_path: Path) -> None:
    files = peft_files(tmp_path / "a")
    _, answer = publish(files)
    assert answer["status"] == "verified", answer["reason"]
    found = outcomes(answer)
    assert found["architecture"][0] == found["forward"][0] == "ok"
    rename(files, "adapter_model.safetensors", lambda name: name.replace("base_model.", "model."))
    _, answer = publish(files)
    assert answer["status"] == "rejected"
    assert "unexpected: model.model." in answer["reason"]


def test_copies_are_named(publish: Callable[..., Any], hub: Hub) -> None:
    # (No base model is known for these, so no child is started.)
    def alike(weights: dict[str, Any]) -> tuple[str, tuple[str, str]]:
        files = adapter_files(model="somebody/unknown-model")
        repo, answer = publish({**files, "adapter.safetensors": save(weights)})
        assert answer["status"] == "verified"
        return repo, outcomes(answer)["duplicates"]

    torch.manual_seed(5)
    weights = {f"layer.{number}.a": torch.randn(7, 5) for number in range(4)}
    first, said = alike(weights)
    assert said == ("ok", "")
    second, said = alike(weights)
    assert said == ("warning", f"the same weights are in {first}")
    _, said = alike({f"other.{name}": value.bfloat16() for name, value in weights.items()})
    assert said == ("warning", f"nearly the same weights are in {first}, {second}")
    _, said = alike({name: torch.randn(7, 5) for name in weights})
    assert said == ("ok", "")
    for repo in (first, second):
        hub.ask("PUT", f"/api/models/{repo}/settings", {"private": True})
    _, said = alike({name: value.double() for name, value in weights.items()})
    assert first not in said[1]
    assert second not in said[1]


_CONFINED = """
import sys
from adapterhub.hub.verify.limits import confine
confine({folder!r}, {{"seconds": 5, "memory": 1 << 30, "file": 1 << 16}})
import os, socket, subprocess
{action}
"""


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("socket.create_connection(('127.0.0.1', 9))", "may not use the network"),
        ("socket.socket(socket.AF_UNIX)", "may not use the network"),
        ("subprocess.run(['true'])", "may not start a program"),
        ("os.system('true')", "may not start a program"),
        ("os.fork()", "may not start a program"),
        ("open('/tmp/adapterhub-escaped', 'w')", "may not write outside"),
        ("os.rename('a', '../b')", "may not write outside"),
        ("os.symlink('/etc', '../b')", "may not write outside"),
        ("open('a', 'wb').write(bytes(1 << 17))", "File too large"),
        ("x = bytearray(1 << 31)", "MemoryError"),
    ],
)
def test_walls_of_the_child(tmp_path: Path, action: str, reason: str) -> None:
    program = _CONFINED.format(folder=str(tmp_path), action=action)
    result = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert reason in result.stderr
    assert not Path("/tmp/adapterhub-escaped").exists()


def test_endless_child_is_ended(tmp_path: Path) -> None:
    program = _CONFINED.format(folder=str(tmp_path), action="while True: pass")
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-I", "-c", program.replace("5,", "1,")], cwd=tmp_path)
    assert result.returncode < 0
    assert time.monotonic() - began < 60


def test_what_a_child_may_do(tmp_path: Path) -> None:
    action = "open('a', 'w').write('x'); os.rename('a', 'b'); print(open('/etc/hostname').read())"
    program = _CONFINED.format(folder=str(tmp_path), action=action)
    result = subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path)
    assert result.returncode == 0
    assert (tmp_path / "b").read_text() == "x"


def test_bases_are_found_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "bases" / "bert-base-uncased"
    bases = Bases([tmp_path / "bases"])
    found = bases.find("google-bert/bert-base-uncased")
    assert found is not None
    assert (found.source, found.model_type) == ("table", "bert")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    found = bases.find("bert-base-uncased")
    assert found is not None
    assert (found.source, found.config["hidden_size"]) == ("folder", 8)
    for name in ("nobody/knows", "../bert-base-uncased", "", None):
        assert bases.find(name) is None


#: Weights as the owners of these models count them (embeddings that are tied counted once).
COUNTS = {
    "albert-base-v2": 11_683_584,
    "bert-base-multilingual-cased": 177_853_440,
    "bert-base-uncased": 109_482_240,
    "bert-large-uncased": 335_141_888,
    "distilbert-base-uncased": 66_362_880,
    "facebook/bart-base": 139_420_416,
    "facebook/bart-large": 406_291_456,
    "facebook/mbart-large-cc25": 610_851_840,
    "google/electra-base-discriminator": 108_891_648,
    "google/gemma-2b": 2_506_172_416,
    "google/vit-base-patch16-224": 86_389_248,
    "gpt2": 124_439_808,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "microsoft/deberta-v3-base": 183_831_552,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "t5-small": 60_506_624,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "xlm-roberta-base": 278_043_648,
    "xlm-roberta-large": 559_890_432,
}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_table_of_base_models(name: str) -> None:
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from adapterhub.hub.verify.trial_base import config_of, on_meta

    values = table()[name]
    kind = AutoModel
    if values["model_type"] in ("gemma", "gpt2", "llama", "mistral", "qwen2"):
        kind = AutoModelForCausalLM
    elif values["model_type"] == "t5":
        kind = AutoModelForSeq2SeqLM
    made = on_meta(kind, config_of(values))
    assert sum(parameter.numel() for parameter in made.parameters()) == COUNTS[name]


def with_head(folder: Path, kind: str = "classification") -> dict[str, bytes]:
    torch.manual_seed(2)
    made = adapterhub.AutoAdapterModel.from_config(BertConfig(**SIZES))
    made.config._name_or_path = BASE
    made.add_adapter("a", config="lora[r=2]")
    made.add_classification_head("a", num_labels=3, layers=1)
    for weight in made.adapter_handle.iter_parameters("a"):
        torch.nn.init.normal_(weight, std=0.3)
    made.save_adapter(folder, "a")
    files = files_of(folder)
    info = json.loads(files["head_config.json"])
    info["config"]["head_type"] = kind
    return {**files, "head_config.json": json.dumps(info).encode()}


def test_heads_are_checked_too(publish: Callable[..., Any], hub: Hub, tmp_path: Path) -> None:
    files = with_head(tmp_path / "a")
    repo, answer = publish(files)
    assert answer["status"] == "verified", answer["reason"]
    (row,) = [row for row in answer["checks"] if row["check"] == "head"]
    assert (row["outcome"], row["file"]) == ("ok", "model_head.safetensors")
    page = hub.ask("GET", f"/adapters/{repo}/", headers={"Accept": "text/html"}).body.decode()
    assert "The prediction head fits, and runs" in page
    # Another card changes nothing about either file.
    assert hub.commit(repo, {"README.md": b"# New\n"}).json["status"] == "verified"
    wrong = dict(files)
    rename(wrong, "model_head.safetensors", lambda name: None if "weight" in name else name)
    _, answer = publish(wrong)
    assert answer["status"] == "rejected"
    assert f"for {BASE}: missing: heads.a.1.weight [3, 16]" in answer["reason"]
    assert outcomes(answer)["forward"][0] == "ok"


def test_custom_heads_are_not_checked_and_not_refused(
    publish: Callable[..., Any], tmp_path: Path
) -> None:
    _, answer = publish(with_head(tmp_path / "a", "span_ranking"))
    assert answer["status"] == "verified", answer["reason"]
    (row,) = [row for row in answer["checks"] if row["check"] == "head"]
    assert row["outcome"] == "skipped"
    assert row["message"].startswith("not checked: the head is of the type 'span_ranking'")
