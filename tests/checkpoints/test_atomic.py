"""A kill at any moment leaves the old folder or the new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapterhub.checkpoints.atomic import recover, replacing

# Runs one replacement and dies at the n-th call of a chosen function of os.
SCRIPT = """
import os, sys
from pathlib import Path
from adapterhub.checkpoints import atomic
target, when, exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "exchange"
if not exchange:
    atomic._exchange = lambda one, other: False
count = 0
def dying(function):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == when:
            os._exit(9)
        return function(*args, **kwargs)
    return call
for name in ("rename", "fsync", "link", "open", "mkdir", "rmdir", "unlink"):
    setattr(os, name, dying(getattr(os, name)))
with atomic.replacing(target, ("a", "b")) as folder:
    (folder / "a").write_text("new")
    (folder / "b").write_text("new")
print(count)
"""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_kill_at_any_moment(tmp_path: Path, way: str) -> None:
    old, new = {"a": "old", "b": "old", "keep": "me"}, {"a": "new", "b": "new", "keep": "me"}
    survived = set()
    for when in range(1, 60):
        target = tmp_path / str(when) / "adapter"
        target.mkdir(parents=True)
        for name, text in old.items():
            (target / name).write_text(text)
        command = [sys.executable, "-c", SCRIPT, str(target), str(when), way]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        recover(target)
        found = contents(target)
        assert found in (old, new), (when, found)
        survived.add("old" if found == old else "new")
        if done.returncode == 0:
            assert found == new
            break
        assert done.returncode == 9, done.stderr
    else:
        raise AssertionError("never ran to its end")
    assert survived == {"old", "new"}


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "adapter"
    with replacing(target, ("a",)) as folder:
        (folder / "a").write_text("1")
    (target / "notes.md").write_text("mine")
    (target / "sub").mkdir()
    (target / "sub" / "x").write_text("too")
    with replacing(target, ("a",)) as folder:
        (folder / "a").write_text("2")
    assert (target / "a").read_text() == "2"
    assert (target / "notes.md").read_text() == "mine"
    assert (target / "sub" / "x").read_text() == "too"
    assert os.listdir(target.parent) == ["adapter"]


def test_an_error_inside_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with replacing(target, ("a",)) as folder:
        (folder / "a").write_text("1")

    def fail() -> None:
        with replacing(target, ("a",)) as folder:
            (folder / "a").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert contents(target) == {"a": "1"}
    assert os.listdir(tmp_path) == ["adapter"]
