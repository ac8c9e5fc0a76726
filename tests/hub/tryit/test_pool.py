"""The child that runs models: fed, watched, replaced; and one that kills it is not run again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterhub.hub.tryit.jobs import Job, Limits, Overloaded, TryError
from adapterhub.hub.tryit.pool import Pool

pytestmark = pytest.mark.slow
_PATIENCE = 600.0


@pytest.fixture(scope="module")
def pool(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    limits = Limits(seconds=_PATIENCE, queue=20, wait=0.05)
    with Pool(limits, tmp_path_factory.mktemp("work"), [models / "bert"]) as made:
        yield made


def _jobs(models: Path, adapters: dict[str, Path], *names: str) -> list[Job]:
    return [Job(models / "bert", f"k-{n}", adapters[n], "a good film", name=n) for n in names]


def test_jobs_for_different_adapters_share_a_batch(
    pool: Pool, models: Path, adapters: dict[str, Path]
) -> None:
    futures = pool.submit(_jobs(models, adapters, "lora-class", "bn-class", "ia3-tags"))
    kinds = [future.result(_PATIENCE)["kind"] for future in futures]
    assert kinds == ["classification", "classification", "tagging"]
    assert pool.batches[-1] == (3, 3)


def test_a_refusal_comes_back_as_one(pool: Pool, models: Path, adapters: dict[str, Path]) -> None:
    (future,) = pool.submit(_jobs(models, adapters, "headless"))
    with pytest.raises(TryError, match="no prediction head"):
        future.result(_PATIENCE)


def test_too_much_is_refused_at_once(pool: Pool, models: Path, adapters: dict[str, Path]) -> None:
    with pytest.raises(Overloaded):
        pool.submit(_jobs(models, adapters, *["lora-class"] * 21))
    long = Job(models / "bert", "k", adapters["lora-class"], "x" * 2001)
    with pytest.raises(TryError, match="2000 characters"):
        pool.submit([long])
    assert pool.waiting == 0


def test_a_child_that_dies_is_replaced(pool: Pool, models: Path, adapters: dict[str, Path]) -> None:
    (future,) = pool.submit(_jobs(models, adapters, "lora-class"))
    future.result(_PATIENCE)
    child, before = pool._child, pool.restarts
    assert child is not None
    os.kill(child.process.pid, signal.SIGKILL)
    (future,) = pool.submit(_jobs(models, adapters, "lora-class"))
    assert future.result(_PATIENCE)["kind"] == "classification"
    assert pool.restarts == before + 1


def test_who_kills_the_child_is_not_run_again_and_others_are(
    models: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    limits = Limits(seconds=_PATIENCE, hang=5.0, wait=0.2)
    # A pipe in the place of a file: who reads it waits for ever.
    os.mkfifo(tmp_path / "adapter_config.json")
    with Pool(limits, tmp_path) as pool:
        stuck = Job(models / "bert", "k-stuck", tmp_path, "a film", name="@x/stuck")
        (good,) = _jobs(models, adapters, "lora-class")
        both = pool.submit([stuck, good])
        with pytest.raises(TryError, match="broke the process"):
            both[0].result(_PATIENCE)
        with pytest.raises(TryError, match="not tried again"):
            pool.submit([stuck])


def test_the_child_has_no_secrets_no_network_and_little_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERHUB_DATABASE_URL", "postgresql://user:hunter2@host/name")
    pool = Pool(Limits(), tmp_path)
    child = pool._start()
    try:
        deadline = time.monotonic() + _PATIENCE
        environment = b""
        while b"HF_HUB_OFFLINE=1" not in environment and time.monotonic() < deadline:
            environment = Path(f"/proc/{child.process.pid}/environ").read_bytes()
        assert b"hunter2" not in environment
        limits = ""
        while "65536" not in limits and time.monotonic() < deadline:
            time.sleep(0.1)
            lines = Path(f"/proc/{child.process.pid}/limits").read_text().splitlines()
            limits = next(line for line in lines if line.startswith("Max file size"))
        assert "65536" in limits
    finally:
        child.process.kill()
        child.process.wait()
        child.close()
