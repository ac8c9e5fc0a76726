"""Tiny base models and adapters for them, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub.tinymodels import make_adapters, make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def adapters(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_adapters(models, tmp_path_factory.mktemp("adapters"))
