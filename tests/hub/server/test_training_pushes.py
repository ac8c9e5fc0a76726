"""What training leaves in a folder can be pushed by the stock libraries: tokenizers, Trainer state, PEFT."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.server.conftest import Hub
from tests.hub.test_sniff import PIECES

pytestmark = pytest.mark.slow  # two processes that import torch, transformers and PEFT

_PUSH = """
import sys, warnings, pathlib
warnings.simplefilter("ignore")
import torch, transformers, peft
from tokenizers import Tokenizer, models, pre_tokenizers
from huggingface_hub import HfApi

repo, folder, token = sys.argv[1:4]
pieces = {word: number for number, word in enumerate(["[UNK]", "[PAD]", "a", "b"])}
made = Tokenizer(models.WordLevel(pieces, unk_token="[UNK]"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]"
)
tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
config = transformers.BertConfig(vocab_size=4, intermediate_size=32, num_labels=2, **sizes)
base = transformers.BertForSequenceClassification(config)
base.name_or_path = "tiny/bert"
model = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))

if sys.argv[4] == "trainer":
    arguments = transformers.TrainingArguments(
        output_dir=folder, hub_model_id=repo, hub_token=token, report_to=[], use_cpu=True
    )
    rows = [{"input_ids": [2, 3], "labels": 0}, {"input_ids": [3, 2], "labels": 1}]
    trainer = transformers.Trainer(
        model, arguments, train_dataset=rows, processing_class=tokenizer
    )
    trainer.args.max_steps = 2
    trainer.args.save_steps = 1
    trainer.train()
    trainer.push_to_hub()
else:
    model.push_to_hub(repo, token=token)
    tokenizer.push_to_hub(repo, token=token)
    place = pathlib.Path(folder)
    (place / "spiece.model").write_bytes(bytes.fromhex(sys.argv[5]))
    (place / ".gitignore").write_text("checkpoints/\\n")
    (place / "merges.txt").write_text("")
    torch.save({"a": 1}, place / "training_args.bin")
    HfApi(token=token).upload_folder(repo_id=repo, folder_path=folder)

again = peft.PeftModel.from_pretrained(
    transformers.BertForSequenceClassification(config), repo, token=token
)
for name, value in again.state_dict().items():
    if "lora" in name:
        assert torch.equal(value, model.state_dict()[name]), name
words = transformers.AutoTokenizer.from_pretrained(repo, token=token)
assert words("a b")["input_ids"] == [2, 3]
assert words.chat_template == tokenizer.chat_template
"""


def run(server: Hub, tmp_path: Path, how: str) -> tuple[str, str]:
    repo, folder = server.new_name(), tmp_path / "folder"
    folder.mkdir()
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    env |= {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    words = [sys.executable, "-c", _PUSH, repo, str(folder), server.token, how, PIECES.hex()]
    result = subprocess.run(words, env=env, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr[-4000:]
    return repo, result.stderr


def names(server: Hub, repo: str) -> set[str]:
    rows = server.ask("GET", f"/api/models/{repo}/tree/main?recursive=true", token=None).json
    return {row["path"] for row in rows if row["type"] == "file"}


def test_adapter_tokenizer_and_leftovers(server: Hub, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    repo, said = run(server, tmp_path, "folder")
    found = names(server, repo)
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
        "spiece.model",
        ".gitignore",
        "merges.txt",
    } <= found
    assert "training_args.bin" not in found
    assert "left out, as loading needs none of it: training_args.bin" in said
    assert server.ask("GET", f"/{repo}/resolve/main/spiece.model", token=None).body == PIECES


def test_trainer(server: Hub, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("accelerate")
    repo, said = run(server, tmp_path, "trainer")
    found = names(server, repo)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= found
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in found)
    assert "left out" in said
