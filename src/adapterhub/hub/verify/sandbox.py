"""Runs a module of ours in a limited child process, for what must not be done to strangers' files here.

The child gets a request (JSON on its standard input) and a folder of its own, puts up the walls of
:mod:`.limits` (:func:`begin`), and answers with one JSON object. Whatever else it does, from a crash to
silence, is one error here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError

_ANSWER, _NOISE = "answer.json", "noise.txt"
_MAX_ANSWER = 4 << 20
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


class ChildFailed(HubError):
    """The child ended without an answer; the message says why, as far as it is known."""


class ChildStopped(ChildFailed):
    """The child was stopped by its limits (or by a machine in need), which proves nothing."""


@dataclass(frozen=True)
class Limits:
    """What a child may use.

    Attributes:
        seconds: of CPU; of time, twice that.
        memory: bytes of address space (torch alone takes about 1 GiB of it).
        file: bytes of the largest file that it may write.
    """

    seconds: int = 120
    memory: int = 6 << 30
    file: int = 64 << 20


def run(
    module: str, request: Mapping[str, Any], folder: Path, limits: Limits | None = None
) -> dict[str, Any]:
    """Run ``python -m module`` on a request; return its answer.

    Args:
        folder: empty; the child may write there and nowhere else.

    Raises:
        ChildFailed: If it does not answer.
    """
    limits = limits or Limits()
    sent = {"request": dict(request), "folder": str(folder), "limits": asdict(limits)}
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= {
        "HOME": str(folder),
        "HF_HUB_OFFLINE": "1",
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder),
        "TRANSFORMERS_VERBOSITY": "error",
    }
    with (folder / _NOISE).open("wb") as noise:
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", "-m", module],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=noise,
            start_new_session=True,
        )
        try:
            child.communicate(json.dumps(sent).encode(), timeout=2 * limits.seconds)
        except subprocess.TimeoutExpired as error:
            raise ChildStopped(f"it took longer than {2 * limits.seconds} s") from error
        finally:
            _end(child)
    if child.returncode < 0:
        raise ChildStopped(
            f"it was ended by signal {-child.returncode}, as for too much time or memory"
        )
    if child.returncode != 0:
        raise ChildFailed(_why(child.returncode, folder))
    return _answer(folder / _ANSWER)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and all that it started."""
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def _why(code: int, folder: Path) -> str:
    with (folder / _NOISE).open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    # (Paths of this machine are nobody's business.)
    last = (lines[-1] if lines else f"it ended with {code}").replace(str(folder), "...")
    return last[:300]


def _answer(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_ANSWER:
            raise ChildFailed("its answer is too long")
        answer = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ChildFailed("it gave no answer") from error
    if not isinstance(answer, dict):
        raise ChildFailed("it gave no answer")
    return answer


def begin() -> tuple[dict[str, Any], bool]:
    """Read the request and put up all walls, in the child; return it, and if the kernel bars the network."""
    from adapterhub.hub.verify.limits import confine

    sent = json.loads(sys.stdin.buffer.read())
    barred = confine(sent["folder"], sent["limits"])
    return sent["request"], barred


def answer(value: Mapping[str, Any]) -> None:
    """Answer, in the child."""
    part = Path(_ANSWER + ".part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(_ANSWER)
