"""One process of ``test_distributed.py``: a forward and backward pass over this rank's half of a batch."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist

from tests.rules.families import FAMILIES
from tests.rules.test_rules import adapted

CELLS = [(f, m) for f in ("bert", "llama") for m in ("lora", "double_seq_bn", "prefix_tuning")]


def main(target: str, way: str) -> None:
    torch.set_num_threads(1)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if way != "single":
        store = f"file://{os.environ['MASTER_FILE']}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    gradients = {}
    for family, method in CELLS:
        for name, value in run_cell(way, family, method, rank, world).items():
            gradients[f"{family}/{method}:{name}"] = value
    if rank == 0:
        torch.save(gradients, target)
    if way != "single":
        dist.barrier()
        dist.destroy_process_group()


def run_cell(
    way: str, family_name: str, method: str, rank: int, world: int
) -> dict[str, torch.Tensor]:
    family = FAMILIES[family_name]
    model = adapted(family, method)
    model.train_adapter(method)
    inputs = family.inputs(4)
    part = slice(rank * 4 // world, (rank + 1) * 4 // world)
    runner = model
    if way == "ddp":
        runner = torch.nn.parallel.DistributedDataParallel(model)
    elif way == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (world,))
        for layer in model.adapter_handle.engine.resolved.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    # The mean over the rows of both halves is the mean of the halves' means.
    runner(**{k: v[part] for k, v in inputs.items()})[0].pow(2).mean().backward()
    result = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad
            result[name] = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
