"""Our own client: ``adapterhub push``, and finding and fetching from a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.conftest import LORA, make_adapter
from tests.hub.server.conftest import Hub


@pytest.fixture
def command(server: Hub, tmp_path: Path):
    """Return ``command(*words)``, which runs ``adapterhub`` against the server."""
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    env |= {
        "HF_HOME": str(tmp_path / "home"),
        "ADAPTERHUB_HUB": server.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }

    def run(*words: str, token: str = server.token) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "adapterhub.cli", *words],
            env={**env, "HF_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


_FETCH = """
import sys
from adapterhub.errors import HubError
from adapterhub.hub.sources import folder_for
for line in sys.argv[1:]:
    identifier, _, preferred = line.partition("|")
    try:
        print(folder_for(identifier, preferred=preferred or None))
    except HubError as error:
        print("ERROR", " ".join(str(error).split()))
"""


def fetch(server: Hub, tmp_path: Path, *identifiers: str) -> list[str]:
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    env |= {
        "HF_HOME": str(tmp_path / "home"),
        "ADAPTERHUB_HUB": server.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", _FETCH, *identifiers],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_push_and_fetch(server: Hub, command, tmp_path: Path) -> None:
    one, two = server.new_name(), server.new_name()
    task = f"sentiment/{one.split('-')[1]}"
    folder = make_adapter(tmp_path / "one")
    before = sorted(path.name for path in folder.iterdir())
    dry = command("push", str(folder), one, "--task", task, "--dry-run", "--no-trial")
    assert dry.returncode == 0, dry
    assert f"adapterhub:{task}" in dry.stdout
    assert "ok       adapter.safetensors: numbers" in dry.stdout
    assert server.ask("GET", f"/api/models/{one}").status == 404
    sent = command("push", str(folder), one, "--task", task, "--license", "MIT", "--language", "en")
    assert sent.returncode == 0, sent
    assert sorted(path.name for path in folder.iterdir()) == before
    info = server.ask("GET", f"/api/models/{one}", token=None).json
    assert {f"adapterhub:{task}", "license:mit", "en", "seq_bn"} <= set(info["tags"])
    again = command(
        "push", str(folder), one, "--task", task, "--license", "MIT", "--language", "en"
    )
    assert again.stdout.split()[-1] == sent.stdout.split()[-1] == info["sha"]
    found = fetch(
        server,
        tmp_path,
        one,
        f"@{one}",
        task,
        f"{task}@admin",
        f"{task}@nobody",
        "no/thing",
        "@no/thing",
    )
    for line in found[:4]:
        assert (Path(line) / "adapter.safetensors").read_bytes() == (
            folder / "adapter.safetensors"
        ).read_bytes()
    assert all(line.startswith("ERROR") for line in found[4:])
    # A second adapter for the task makes the choice unclear, unless the base model decides.
    other = make_adapter(tmp_path / "two", config=LORA, model="roberta-base")
    assert command("push", str(other), two, "--task", task).returncode == 0
    unclear, decided = fetch(server, tmp_path, task, f"{task}|roberta-base")
    assert "fits 2 adapters" in unclear
    assert f"@{one}" in unclear
    assert (Path(decided) / "adapter_config.json").read_bytes() == (
        other / "adapter_config.json"
    ).read_bytes()


def test_damaged_cache_is_noticed(server: Hub, tmp_path: Path) -> None:
    repo = server.new_name()
    server.published(repo)
    (folder,) = fetch(server, tmp_path, repo)
    file = (Path(folder) / "adapter.safetensors").resolve()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    (line,) = fetch(server, tmp_path, repo)
    assert "is damaged" in line


def test_push_refused(server: Hub, command, tmp_path: Path) -> None:
    repo = server.new_name()
    folder = make_adapter(tmp_path / "bad", weights=(float("nan"),))
    (folder / "evil.py").write_text("import os\n")
    for words in (["--dry-run"], []):
        refused = command("push", str(folder), repo, "--task", "sentiment", *words)
        assert refused.returncode == 1
        for reason in ("NaN", "evil.py", "must be task/subtask"):
            assert reason in refused.stdout + refused.stderr
    good = make_adapter(tmp_path / "good")
    foreign = command("push", str(good), "nobody/x")
    assert foreign.returncode == 1
    assert "don't have the rights" in foreign.stderr
    wrong = command("push", str(good), repo, token="ahub_wrong")
    assert wrong.returncode == 1
    assert "Invalid credentials" in wrong.stderr
    assert server.ask("GET", f"/api/models/{repo}").status == 404


def test_card_of_the_author_stays(tmp_path: Path) -> None:
    from adapterhub.hub.client import prepare

    folder = make_adapter(tmp_path / "one")
    text = "---\nlicense: cc-by-4.0\ntags:\n- mine\n---\n# Mine\n\nwith --- in it\n---\nend\n"
    (folder / "README.md").write_text(text)
    card = prepare(folder, task="ner/conll", license="MIT").card
    assert card.endswith("---\n# Mine\n\nwith --- in it\n---\nend\n")
    assert "license: cc-by-4.0" in card
    assert "- mine" in card
    assert "- adapterhub:ner/conll" in card
    assert "base_model: bert-base-uncased" in card


_LOAD = """
import sys, torch
from transformers import BertConfig, BertModel
import adapterhub

mode, place = sys.argv[1:3]
torch.manual_seed(3)
sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
model = BertModel(BertConfig(vocab_size=40, intermediate_size=32, **sizes)).eval()
model.config._name_or_path = "tiny/bert"
ids = torch.tensor([[5, 6, 7]])
without = model(ids).last_hidden_state
adapterhub.init(model)
if mode in ("save", "push"):
    model.add_adapter("a", config="seq_bn")
    for name, weight in model.named_parameters():
        if "up" in name:
            torch.nn.init.normal_(weight)
    if mode == "save":
        model.save_adapter(place, "a")
    else:
        texts = {"license": "MIT", "tags": ["pushed"]}
        model.push_adapter_to_hub(place, "a", overwrite_adapter_card=True, adapter_card_kwargs=texts)
    name = "a"
else:
    name = model.load_adapter(place)
model.set_active_adapters(name)
result = model(ids).last_hidden_state
assert not torch.allclose(result, without)
print(repr(result.sum().item()))
"""


@pytest.mark.slow
def test_adapter_of_a_model_goes_there_and_back(server: Hub, command, tmp_path: Path) -> None:
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    env |= {
        "HF_HOME": str(tmp_path / "home"),
        "ADAPTERHUB_HUB": server.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }

    def run(mode: str, place: str) -> str:
        words = [sys.executable, "-c", _LOAD, mode, place]
        env["HF_TOKEN"] = server.token if mode == "push" else ""
        result = subprocess.run(words, env=env, capture_output=True, text=True, timeout=180)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    repo = server.new_name()
    task = f"ner/{repo.split('-')[1]}"
    wanted = run("save", str(tmp_path / "saved"))
    pushed = command("push", str(tmp_path / "saved"), repo, "--task", task)
    assert pushed.returncode == 0, pushed
    assert run("load", task) == wanted
    # The model pushes by itself, to the same server.
    assert run("push", f"{task}-2@admin") == wanted
    info = server.ask("GET", "/api/models/admin/a", token=None).json
    assert {f"adapterhub:{task}-2", "pushed", "license:mit"} <= set(info["tags"])
    assert run("load", f"{task}-2@admin") == wanted
