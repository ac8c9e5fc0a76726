"""Rule 8: gradients of data-parallel and sharded training are those of one process.

Two processes (gloo, on the CPU) go through all cells: each has one of the two rows, and rank 0 compares with
what it computes from both rows alone. :func:`distributed_outcomes` starts them; this file is what they run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.matrix.subject import ROWS, Subject, adapted, close, line, rows

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("ddp", "fsdp")


def distributed_outcomes(
    cells: Sequence[tuple[str, str]], seconds: float = 600.0
) -> dict[str, dict[str, str]]:
    """Return what came of each (family, method), by ``family/method`` and way: "" or what is wrong.

    Raises:
        RuntimeError: a process died.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        processes = []
        for rank in range(ROWS):
            environment = {
                **os.environ,
                "RANK": str(rank),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            }
            command = [sys.executable, "-m", "benchmarks.matrix.distributed", folder]
            command += [f"{family}/{method}" for family, method in cells]
            processes.append(
                subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            )
        try:
            for process in processes:
                _, errors = process.communicate(timeout=seconds)
                if process.returncode:
                    raise RuntimeError(errors[-3000:])
        finally:
            for process in processes:
                process.kill()
        return json.loads(target.read_text())


def main(folder: str, *cells: str) -> None:
    """Run as one of the processes."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ROWS)
    found: dict[str, dict[str, str]] = {}
    subject: Any = None
    for cell in cells:
        family, method = cell.split("/")
        if subject is None or subject.family != family:
            subject = Subject(family)
        expected = gradients(subject, method, "single", subject.inputs)
        mine = rows(subject.inputs, rank)
        found[cell] = {way: _compared(subject, method, way, mine, expected) for way in WAYS}
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def _compared(
    subject: Subject, method: str, way: str, inputs: dict[str, Any], expected: dict[str, Any]
) -> str:
    try:
        found = gradients(subject, method, way, inputs)
    except Exception as error:
        return line(error)
    if not expected or set(found) != set(expected):
        return f"{len(found)} gradients, not {len(expected)}"
    wrong = [name for name in expected if not close(found[name], expected[name])]
    if wrong:
        name = wrong[0]
        gap = float((found[name] - expected[name]).abs().max())
        return f"gradient of {name} differs by {gap:.1e}, and {len(wrong) - 1} more"
    if not any(bool(value.any()) for value in expected.values()):
        return "all gradients are zero"
    return ""


def gradients(
    subject: Subject, method: str, way: str, inputs: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Return the gradients of one step by name: of the mean over the rows, which halves have as well."""
    torch.manual_seed(0)  # for what is drawn and not trained (VeRA's maps)
    model = adapted(subject.bare(), method)
    model.train_adapter(method)
    model.eval()
    runner = model
    if way == "ddp":
        runner = torch.nn.parallel.DistributedDataParallel(model)
    elif way == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (ROWS,))
        for layer in model.adapter_handle.engine.resolved.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    first = runner(**inputs)[0]
    weights = torch.randn(first.shape[1:], generator=torch.Generator().manual_seed(7))
    (first * weights).sum().div(first.shape[0]).backward()
    result = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient: Any = parameter.grad
            result[name] = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
