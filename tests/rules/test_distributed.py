"""Rule 8: data-parallel and sharded training give the gradients of a single process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("distributed_worker.py")
ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, way: str, world: int) -> dict[str, torch.Tensor]:
    """Run the worker in *world* processes; return the gradients that rank 0 wrote, by cell and name."""
    target = folder / f"{way}.pt"
    workers = []
    for rank in range(world):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "MASTER_FILE": str(folder / f"store-{way}"),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, str(SCRIPT), str(target), way]
        workers.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors[-3000:]
    return torch.load(target, weights_only=True)


@pytest.mark.slow
def test_gradients_equal_a_single_process(tmp_path: Path) -> None:
    expected = run(tmp_path, "single", 1)
    assert len({name.split(":")[0] for name in expected}) == 6
    for way in ("ddp", "fsdp"):
        found = run(tmp_path, way, 2)
        assert set(found) == set(expected)
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
