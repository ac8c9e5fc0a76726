"""The description of the API is that of the routes, and the server does what it says."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("starlette", reason="the hub server needs the [hub] extra")

from adapterhub.hub.server import openapi
from adapterhub.hub.server.app import _TABLE
from adapterhub.hub.server.operations import OPERATIONS
from adapterhub.hub.server.routing import Route, get
from tests.hub.server.conftest import Hub


def _described() -> list[tuple[Route, str]]:
    return [(r, method) for r in _TABLE.routes if not r.visited for method in r.methods]


def test_every_operation_is_described_and_nothing_else() -> None:
    used = {openapi.key_of(route, method) for route, method in _described()}
    assert used - OPERATIONS.keys() == set(), "describe these in server/operations.py"
    assert OPERATIONS.keys() - used == set(), "these have no route any more"


def test_a_route_without_a_line_is_noticed() -> None:
    with pytest.raises(KeyError, match="builtins"):
        openapi.describe([get("/x", print)], "http://hub")


def test_description(server: Hub) -> None:
    answer = server.ask("GET", "/api/hub/v1/openapi.json", token=None)
    assert answer.status == 200
    found = answer.json
    assert found["openapi"].startswith("3.1")
    assert found["servers"] == [{"url": server.url}]
    operations = [operation for path in found["paths"].values() for operation in path.values()]
    assert len(operations) == len(_described())
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"], operation
        assert {"400", "401", "403", "404", "429", "503"} <= operation["responses"].keys()
    for path, methods in found["paths"].items():
        named = set(re.findall(r"\{(\w+)\}", path))
        for operation in methods.values():
            given = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert given == named, path
    commit = found["paths"]["/api/models/{owner}/{name}/commit/{rev}"]["post"]
    assert {"412", "413", "422"} <= commit["responses"].keys()
    assert commit["x-token-scope"] == "write"
    assert all(
        found["components"]["responses"][str(status)]["description"] for status in (404, 422)
    )
    # References lead somewhere.
    text = json.dumps(found)
    for part in {piece.partition('"')[0] for piece in text.split('"$ref": "#/')[1:]}:
        place = found
        for step in part.split("/"):
            place = place[step]


@pytest.mark.slow
def test_the_server_does_what_it_says() -> None:
    """A few made-up requests to every operation; ``python -m benchmarks.hub_fuzz`` makes many."""
    pytest.importorskip("schemathesis", reason="fuzzing needs schemathesis")
    from benchmarks.hub_fuzz import run

    # Always the same requests: what is new is for the command to find.
    limits = ("--max-examples", "3", "--max-time", "25", "--seed", "1")
    found = run((*limits, "--continue-on-failure"))
    assert found["requests"] > 100
    assert found["operations"] >= 90
