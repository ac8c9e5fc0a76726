"""Turns pickled weights into safetensors, in a child process that may do little else.

Stock clients still send pickles by default (``push_adapter_to_hub`` of the ``adapters`` library has no
switch for it). They are never kept and never served: the child reads the file with torch's restricted
unpickler (``weights_only=True``), accepts nothing but a flat mapping of names to tensors, and writes
safetensors, which then pass all checks like any other file. This process never unpickles anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adapterhub.hub.store.refusals import Unacceptable

#: Names under which clients save pickles, and what the same weights are called as safetensors.
TARGETS = {
    "pytorch_adapter.bin": "adapter.safetensors",
    "pytorch_model_head.bin": "model_head.safetensors",
    "adapter_model.bin": "adapter_model.safetensors",
}
_SECONDS = 120
_MEMORY = 8 << 30
_SLACK = 1 << 20


def target_of(path: str) -> str | None:
    """Return the path that a pickle's weights get, or ``None`` if this is not such a file."""
    folder, slash, name = path.rpartition("/")
    target = TARGETS.get(name)
    return f"{folder}{slash}{target}" if target else None


def convert(source: Path, target: Path, name: str) -> None:
    """Write the tensors of the pickle *source* (called *name* in messages) to *target* as safetensors.

    Raises:
        Unacceptable: If it holds anything but tensors, or the child fails, for whatever reason.
    """
    command = [sys.executable, "-I", "-m", __name__, str(source), str(target)]
    allowed = {
        key: os.environ[key]
        for key in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
        if key in os.environ
    }
    try:
        result = subprocess.run(
            command,
            env={**allowed, "OMP_NUM_THREADS": "1", "HOME": str(target.parent)},
            cwd=target.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unacceptable(
            f"{name} is a pickle that could not be converted in {_SECONDS} s; {_WAY}"
        ) from error
    if result.returncode != 0:
        reason = (
            result.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200] or "it failed"
        )
        raise Unacceptable(f"{name} is a pickle that could not be converted ({reason}); {_WAY}")


_WAY = "save the adapter as safetensors and push that"


def _limit(size: int) -> None:
    """Bound what the child may use; a bomb ends itself."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for kind, value in (
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, 2 * size + _SLACK),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _child(source: Path, target: Path) -> None:
    """What the child does: load, look, save."""
    import torch
    from safetensors.torch import save_file

    size = source.stat().st_size
    _limit(size)
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        # The rest of the message tells how to switch the protection off.
        sys.exit(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    if not isinstance(state, dict) or not state:
        sys.exit("it is not a mapping of names to tensors")
    plain = {}
    for name, value in state.items():
        if (
            not isinstance(name, str)
            or not isinstance(value, torch.Tensor)
            or value.layout != torch.strided
        ):
            sys.exit("it holds something else than named tensors")
        if value.numel() * value.element_size() > 2 * size + _SLACK:
            sys.exit("a tensor is larger than the file")
        plain[name] = value.detach().clone().contiguous()
    save_file(plain, target, metadata={"format": "pt"})


if __name__ == "__main__":
    _child(Path(sys.argv[1]), Path(sys.argv[2]))
