"""One torch thread a worker; every test hands the shared models back as it found them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.matrix.helpers import restore_all


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _restore_shared_models() -> Iterator[None]:
    yield
    restore_all()
