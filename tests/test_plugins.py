"""The code of ``docs/extending.md``, installed as a package with entry points, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs" / "extending.md"

SCRIPT = """
import sys, tempfile, torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, BertConfig, BertModel
import adapterhub
from adapterhub import Average, Fuse, Parallel, Route, Stack

assert "ssf" not in sys.modules
torch.manual_seed(0)

class NovelConfig(PretrainedConfig):
    model_type = "novel"
    hidden_size = 16
    num_hidden_layers = 2

class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.wq, self.wv, self.wo = (nn.Linear(16, 16) for _ in range(3))
    def forward(self, x):
        return self.wo(torch.softmax(self.wq(x), -1) * self.wv(x))

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.mix = nn.LayerNorm(16), Mix()
        self.norm_2, self.wide, self.narrow = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
    def forward(self, x):
        x = x + self.mix(self.norm_1(x))
        return x + self.narrow(torch.relu(self.wide(self.norm_2(x))))

class NovelModel(PreTrainedModel):
    config_class = NovelConfig
    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(50, 16)
        self.blocks = nn.ModuleList(Block() for _ in range(config.num_hidden_layers))
        self.post_init()
    def forward(self, input_ids, **kwargs):
        x = self.words(input_ids)
        for block in self.blocks:
            x = block(x)
        return (x,)

bert = BertModel(BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                            intermediate_size=32, vocab_size=50))
ids = torch.randint(0, 50, (3, 5))
for model in (NovelModel(NovelConfig()).eval(), bert.eval()):
    before = model(ids)[0]
    model = adapterhub.init(model)
    model.add_adapter("a", config="ssf[points=('q', 'v', 'down')]")
    model.add_adapter("b", config="ssf[points=('q', 'v', 'down')]")
    model.add_adapter("lora", config="lora[init_weights='bert']")
    model.add_adapter("bn", config="seq_bn[reduction_factor=4]")
    model.add_adapter("both", config="ssf|seq_bn[reduction_factor=4]")
    assert torch.equal(model(ids)[0], before)
    model.set_active_adapters("a")
    assert torch.allclose(model(ids)[0], before, atol=1e-6)  # it starts as the identity
    with torch.no_grad():
        for name in ("a", "b"):
            for parameter in model.adapter_handle.iter_parameters(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    alone = {}
    for name in ("a", "b", "lora", "bn"):
        model.set_active_adapters(name)
        alone[name] = model(ids)[0]
        assert (alone[name] - before).abs().max() > 1e-4
    model.set_active_adapters(Parallel("a", "lora", "bn"))
    expected = torch.cat([alone["a"], alone["lora"], alone["bn"]])
    assert torch.allclose(model(ids)[0], expected, atol=1e-5)
    model.set_active_adapters(Route("a", "b", "bn"))
    routed = model(ids, adapter_rows=["bn", "a", None])[0]
    for row, reference in enumerate((alone["bn"], alone["a"], before)):
        assert torch.allclose(routed[row], reference[row], atol=1e-5)
    model.add_adapter_fusion(["a", "b"])
    for setup in (Stack("a", "b"), Average("a", "lora"), Fuse("a", "b"), "both"):
        model.set_active_adapters(setup)
        assert torch.isfinite(model(ids)[0]).all()
    model.train_adapter("a")
    model(ids)[0].sum().backward()
    assert all(p.grad is not None for p in model.adapter_handle.iter_parameters("a"))
    model.eval()
    model.merge_adapter("a")
    assert torch.allclose(model(ids)[0], alone["a"], atol=1e-5)
    model.reset_adapter()
    with tempfile.TemporaryDirectory() as folder:
        model.save_adapter(folder, "a")
        model.load_adapter(folder, load_as="again", set_active=True)
        assert torch.equal(model(ids)[0], alone["a"])
    model.adapter_handle.detach()
    assert torch.equal(model(ids)[0], before)
print("fine")
"""


@pytest.mark.slow
def test_a_method_and_a_family_from_another_package(tmp_path: Path) -> None:
    blocks = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCS.read_text(), re.DOTALL))
    assert set(blocks) == {"ssf.py", "novel.py"}
    for name, code in blocks.items():
        (tmp_path / name).write_text(code)
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[adapterhub.plugins]\nssf = ssf:register\nnovel = novel:register\nbroken = nowhere:register\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip().endswith("fine")
    assert "'broken' (nowhere:register) does not load" in found.stderr


def test_the_method_of_the_documentation_is_short() -> None:
    (code,) = re.findall(r"```python\n# ssf\.py\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 75
