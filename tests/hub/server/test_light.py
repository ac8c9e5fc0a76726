"""What does not run a server does not pay for one."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = ("starlette", "uvicorn", "sqlalchemy", "alembic", "boto3", "prometheus_client", "psycopg")


@pytest.mark.parametrize(
    "what",
    [
        "import adapterhub",
        "import adapterhub.hub",
        "from adapterhub.cli.app import build_app; build_app()",
    ],
)
def test_server_libraries_are_not_imported(what: str) -> None:
    code = f"{what}; import sys; print([n for n in {_HEAVY} if n in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
