"""Sends a hub server whatever schemathesis makes of the server's own description of its API.

python -m benchmarks.hub_fuzz --seconds 600

Two passes with an administrator's token: one that makes up everything, and one whose paths name a repository
that is there, so that requests get further. No answer may be a 5xx, have a status that is not documented,
another type of content than documented, or a body of another shape; and nothing unexpected may be in the log.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.hub_setups import adapter, machine, setup, write

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
REPO = "admin/fuzzed"
#: Makes the token useless with which everything else is tried.
_SELF_DESTRUCTION = r"/api/hub/v1/tokens/\{token\}"
_CONFIG = """
[parameters]
"path.owner" = "admin"
"path.name" = "fuzzed"
"path.rev" = "main"
"path.ref" = "side"
"path.user" = "ada"
"""


def fuzz(
    url: str,
    token: str,
    folder: Path,
    *,
    config: str = "",
    options: tuple[str, ...] = (),
) -> tuple[int, str]:
    """Run schemathesis against a server; return its exit status (0: nothing found) and what it said."""
    folder.mkdir()
    (folder / "schemathesis.toml").write_text(config)
    command = [
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "run",
        f"{url}/api/hub/v1/openapi.json",
        "--header",
        f"Authorization: Bearer {token}",
        "--checks",
        ",".join(CHECKS),
        "--exclude-path-regex",
        _SELF_DESTRUCTION,
        "--warnings",
        "off",
        "--no-color",
        "--generation-database",
        "none",
        "--suppress-health-check",
        "all",
        *options,
    ]
    root = str(Path(__file__).resolve().parent.parent)
    places = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": places, "SCHEMATHESIS_HOOKS": "benchmarks.hub_fuzz_hooks"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def run(options: tuple[str, ...], show: bool = False) -> dict[str, Any]:
    """Fuzz a new hub in both passes.

    Raises:
        AssertionError: With what was found.
    """
    with setup("sqlite") as made, tempfile.TemporaryDirectory() as folder:
        hub = made.hubs[0]
        hub.published(REPO, adapter(1, 1))
        hub.user("ada")
        hub.ask("POST", f"/api/models/{REPO}/branch/side", {})
        found = []
        for name, config in (("made-up", ""), ("known", _CONFIG)):
            status, said = fuzz(
                hub.url, hub.token, Path(folder, name), config=config, options=options
            )
            if show:
                print(said)
            if status:
                raise AssertionError(f"pass {name}: schemathesis ended with {status}\n{said}")
            found.append(said)
        lines = [json.loads(line) for line in hub.log.read_text().splitlines() if line[:1] == "{"]
    statuses = Counter(str(line["status"]) for line in lines if "status" in line)
    loud = [line for line in lines if line["level"] in ("error", "critical")]
    if loud or any(status >= "500" for status in statuses):
        raise AssertionError(f"{dict(statuses)}; in the log: {loud[:3]}")
    return {
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "operations": _operations(found[0]),
        "checks": list(CHECKS),
        "server_errors": 0,
        "undocumented": 0,
    }


def _operations(said: str) -> int:
    """Return how many operations schemathesis says it tried."""
    match = re.search(r"Operations:\s+([0-9]+) selected", said)
    return int(match[1]) if match else 0


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Fuzz a hub server by its own description.")
    parser.add_argument("--seconds", type=int, default=300, help="for each of the two passes")
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/hub_fuzz.json"))
    given = parser.parse_args()
    budget = ("--max-examples", str(given.examples), "--max-time", str(given.seconds))
    found = run((*budget, "--workers", "2", "--continue-on-failure"), show=True)
    command = f"python -m benchmarks.hub_fuzz --seconds {given.seconds} --examples {given.examples}"
    write(given.output, {"command": command, **found, **machine()})


if __name__ == "__main__":
    main()
