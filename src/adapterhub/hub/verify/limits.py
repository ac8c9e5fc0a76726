"""What a child process that handles strangers' files puts on itself before it looks at them.

Four walls, each of which stands if another falls: limits of the operating system on time, memory, size and
number of files; no network, by a network name space of its own where the system permits that; an audit
hook of Python that refuses sockets, programs and writing outside of one folder, and that cannot be taken
off again; and an environment that holds nothing worth stealing (:mod:`.sandbox`). Only the standard
library is used, so that all stands before anything else is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_PROGRAMS = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "subprocess.", "pty.")
_CHANGES = {
    "os.chmod": 1,
    "os.chown": 1,
    "os.link": 2,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.truncate": 1,
}


def confine(folder: str, limits: Mapping[str, int]) -> bool:
    """Put all walls up; return whether the network is out of reach by the kernel, too.

    Args:
        folder: the only place where files may be written.
        limits: ``seconds`` of CPU, bytes of ``memory`` (address space), bytes of one ``file``.
    """
    _limit(limits)
    alone = _leave_network()
    place = os.path.realpath(folder)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("socket.") and event != "socket.gethostname":
            raise PermissionError(f"a check may not use the network ({event})")
        if event.startswith(_PROGRAMS):
            raise PermissionError(f"a check may not start a program ({event})")
        if event == "open" and _writes(arguments):
            _require_inside(arguments[0], place)
        elif event in _CHANGES:
            for path in arguments[: _CHANGES[event]]:
                _require_inside(path, place)

    sys.addaudithook(refuse)
    return alone


def no_more_processes() -> None:
    """Allow no further process or thread; call it when all is imported (root is not held by it)."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    except (ImportError, ValueError, OSError):
        return


def _limit(limits: Mapping[str, int]) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for kind, value in (
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, 512),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _leave_network() -> bool:
    """Move to a network name space without any interface, if the system lets us."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        unshare = ctypes.CDLL(None, use_errno=True).unshare
    except (OSError, AttributeError):
        return False
    return unshare(_NEW_NET) == 0 or unshare(_NEW_USER | _NEW_NET) == 0


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def _require_inside(path: Any, place: str) -> None:
    if isinstance(path, int):  # a file that is open already
        return
    real = os.path.realpath(os.fsdecode(path))
    if real != "/dev/null" and os.path.commonpath([real, place]) != place:
        raise PermissionError(f"a check may not write outside of its folder ({real})")
