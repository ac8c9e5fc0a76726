"""A live server and folders: export, import, mirror, and the pages of what is in a store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterhub.hub import Hub as Folder
from adapterhub.hub.copies.choose import export, mirror, store
from adapterhub.hub.copies.endpoint import Endpoint
from adapterhub.hub.copies.run import copy, open_copy
from adapterhub.hub.copies.wire import Wire
from tests.hub.conftest import make_adapter
from tests.hub.server.conftest import Hub, adapter_files

README = b"""---
tags:
  - adapterhub:sentiment/sst-2
license: apache-2.0
language: en
model-index:
  - name: x
    results:
      - task: {type: text-classification}
        dataset: {name: sst-2, type: sst-2}
        metrics: [{type: accuracy, value: 0.9}]
---
# My adapter

It works.
"""


def cli(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ADAPTERHUB_CHECKS": "format", **environment}
    env.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-m", "adapterhub.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
    )


def fill(hub: Hub) -> None:
    """Two public adapters, one in two versions; and what nobody else may see."""
    ada = hub.user("ada")
    hub.published("admin/one", {**adapter_files(), "README.md": README})
    assert hub.ask("POST", "/api/models/admin/one/tag/main", {"tag": "v1"}).status == 201
    made = hub.commit("admin/one", adapter_files(weights=(1.0, 2.0, 3.0)))
    assert made.status == 200
    hub.published("ada/two", adapter_files(weights=(7.0,)), token=ada)
    secret = adapter_files(weights=(13.0, 13.5, 14.0))
    hub.published("admin/secret", secret, private=True)
    hub.create("admin/held")
    hub.commit("admin/held", {"notes.md": b"# not an adapter\n"})
    hub.published("admin/gated", adapter_files(weights=(15.0, 15.5)))
    made = hub.ask("PUT", "/api/models/admin/gated/settings", {"gated": "manual"})
    assert made.status == 200


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Any:
    hub = Hub(tmp_path_factory.mktemp("live") / "data")
    fill(hub)
    yield hub
    hub.stop()


def cards(root: Path, *without: str) -> dict[str, str]:
    """All cards of a folder, without the lines that begin with one of the given words."""
    found = {}
    for path in sorted(root.rglob("*.yaml")):
        name = path.relative_to(root).as_posix()
        if name != "hub.yaml":
            lines = path.read_text().splitlines()
            found[name] = "\n".join(x for x in lines if not x.strip().startswith(without or "\0"))
    return found


def blobs(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").rglob("*") if path.is_file()}


def test_three_ways_to_copy_give_the_same_and_nothing_that_is_not_public(
    live: Hub, tmp_path: Path
) -> None:
    mirror(live.url, tmp_path / "a")
    export(str(live.data), tmp_path / "b")
    wire = Wire(live.url)
    copy(Endpoint(wire), open_copy(tmp_path / "c", wire.base))
    first = cards(tmp_path / "a")
    assert {n for n in first if n.startswith("adapters/")} == {
        "adapters/ada/two.yaml",
        "adapters/admin/one.yaml",
    }
    assert cards(tmp_path / "b") == first
    # The protocol does not say when an older version was published.
    assert cards(tmp_path / "c", "published:") == cards(tmp_path / "a", "published:")
    assert blobs(tmp_path / "a") == blobs(tmp_path / "b") == blobs(tmp_path / "c")
    folder = Folder(tmp_path / "a")
    assert not [f for f in folder.check() if f.severity in ("error", "warning")]
    entry = folder.resolve("sentiment/sst-2")
    assert (entry.identifier, len(entry.card.versions)) == ("@admin/one", 2)
    assert entry.card.find_version("v1") is not None
    assert (folder.pull("@admin/one", version="v1") / "README.md").read_bytes() == README


def test_a_second_run_asks_for_nothing(live: Hub, tmp_path: Path) -> None:
    mirror(live.url, tmp_path / "a")
    report, origin = mirror(live.url, tmp_path / "a")
    assert (report.changed, report.files, origin.wire.requests) == (False, 0, 2)
    export(str(live.data), tmp_path / "b")
    assert not export(str(live.data), tmp_path / "b").changed


def test_what_is_private_is_in_no_list(live: Hub) -> None:
    index = live.ask("GET", "/dist/index.json", token=None)
    assert index.status == 200
    for name in (b"secret", b"held", b"gated"):
        assert name not in index.body
    for name in ("secret", "held", "gated"):
        # Not even for those who may see it elsewhere: these addresses are the same for everybody.
        for token in (None, ""):
            card = live.ask("GET", f"/dist/cards/adapters/admin/{name}.yaml", token=token)
            assert card.status == 404
    for path in ("../../../etc/passwd", "%2e%2e/%2e%2e/hub.db", "hub.db", ""):
        assert live.ask("GET", f"/dist/cards/{path}", token=None).status in (400, 404)
    again = live.ask("GET", "/dist/index.json", headers={"If-None-Match": index.headers["etag"]})
    assert again.status == 304


@pytest.mark.slow
def test_the_index_follows_every_change(new_hub: Callable[..., Hub], tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    from adapterhub.hub.signing import SigningKey

    made = SigningKey.generate("hub")
    made.save(key)
    hub = new_hub(ADAPTERHUB_INDEX_KEY=str(key))

    def listed() -> set[str]:
        answer = hub.ask("GET", "/dist/index.json", token=None).json
        return {p.split("/", 1)[1] for p in answer["cards"] if p.startswith("adapters/")}

    assert listed() == set()
    hub.published("admin/one")
    assert listed() == {"admin/one.yaml"}
    mirror(hub.url, tmp_path / "m", keys=[str(made.public)])
    hub.ask("PUT", "/api/models/admin/one/settings", {"private": True})
    assert listed() == set()
    hub.ask("PUT", "/api/models/admin/one/settings", {"private": False})
    body = {"fromRepo": "admin/one", "toRepo": "admin/renamed"}
    assert hub.ask("POST", "/api/repos/move", body).status == 200
    assert listed() == {"admin/renamed.yaml"}
    report, origin = mirror(hub.url, tmp_path / "m", prune=True)
    assert report.removed == ["adapters/admin/one.yaml"]
    assert report.files == 0  # the contents were there
    assert origin.seen is not None  # type: ignore[union-attr]
    hub.ask("DELETE", "/api/repos/delete", {"name": "renamed", "organization": "admin"})
    assert listed() == set()


@pytest.mark.slow
def test_there_and_back_again(live: Hub, new_hub: Callable[..., Hub], tmp_path: Path) -> None:
    """Export, build, import into another server, export that: the same adapters, versions and bytes."""
    export(live.url, tmp_path / "first")
    built = cli("hub", "build", tmp_path / "site", "--hub", tmp_path / "first")
    assert built.returncode == 0, built.stderr
    other = new_hub("other")
    done = cli(
        *("hub", "import", tmp_path / "first", "--to", other.url, "--create-owners"),
        HF_TOKEN=other.token,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 version(s) sent" in done.stdout
    again = cli("hub", "import", tmp_path / "first", "--to", other.url, HF_TOKEN=other.token)
    assert "0 version(s) sent" in again.stdout
    export(other.url, tmp_path / "second")
    assert cards(tmp_path / "second", "published:") == cards(tmp_path / "first", "published:")
    assert blobs(tmp_path / "second") == blobs(tmp_path / "first")
    for repo in ("admin/one", "ada/two"):
        answers = [
            h.ask("GET", f"/api/hub/v1/repos/{repo}/checks", token=None) for h in (live, other)
        ]
        verdicts = [
            sorted((c["file"] or "", c["check"], c["outcome"]) for c in a.json["checks"])
            for a in answers
        ]
        assert verdicts[0] == verdicts[1]


@pytest.mark.slow
def test_a_folder_that_was_published_to(new_hub: Callable[..., Hub], tmp_path: Path) -> None:
    """What only the card knows reaches the server in the README, and comes back from there."""
    folder = Folder.init(tmp_path / "folder")
    for version in ("1", "2"):
        made = make_adapter(tmp_path / version, weights=(float(version), 2.0))
        folder.publish(
            made,
            task="nli",
            subtask="mnli",
            owner="ada",
            name="nli-a",
            version=version,
            license="MIT",
            language="en",
            description="Says what follows.",
            metrics={"accuracy": 0.8},
            citation="@misc{a}",
            author="Ada L.",
        )
    data = tmp_path / "data"
    new_hub("data").stop()
    done = cli("hub", "import", folder.path, "--to", data)
    assert done.returncode == 0, done.stdout + done.stderr
    export(str(data), tmp_path / "out")
    (entry,) = Folder(tmp_path / "out").catalogue.entries
    card = entry.card
    assert (card.type, card.task, card.subtask) == ("text_task", "nli", "mnli")
    assert [v.version for v in card.versions] == ["1", "2"]
    assert card.default_version == "2"
    assert (card.license, card.languages, card.author) == ("MIT", ("en",), "Ada L.")
    assert (card.citation, dict(entry.version.metrics)) == ("@misc{a}", {"accuracy": 0.8})
    readme = Folder(tmp_path / "out").pull("@ada/nli-a") / "README.md"
    assert "Says what follows." in readme.read_text()
    origin = store(data)
    assert "ahub_" not in repr(origin.about())


@pytest.mark.slow
def test_a_peft_adapter_in_a_copy(new_hub: Callable[..., Hub], tmp_path: Path) -> None:
    from tests.hub.conftest import floats, safetensors_bytes

    names = ("lora_A", "lora_B")
    shapes = ([4, 8], [8, 4])
    tensors = {
        f"base_model.model.encoder.layer.0.attention.self.query.{name}.weight": (
            "F32",
            shape,
            floats(*[0.5] * 32),
        )
        for name, shape in zip(names, shapes, strict=True)
    }
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "base_model_name_or_path": "bert-base-uncased",
        "target_modules": ["query"],
    }
    hub = new_hub()
    files = {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": safetensors_bytes(tensors),
        "README.md": README,
    }
    hub.published("admin/peft", files)
    mirror(hub.url, tmp_path / "m")
    built = cli("hub", "build", tmp_path / "site", "--hub", tmp_path / "m")
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site/adapters/admin/peft/index.html").read_text()
    assert "It works." in page  # the README, as the card has no description
    assert "Check failed" not in page
    folder = Folder(tmp_path / "m")
    assert not [f for f in folder.check() if f.severity in ("error", "warning")]
    assert folder.catalogue.entries[0].method == "lora"


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_becomes_a_new_server(
    there: bool, new_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    """``hub import FOLDER --to DATA``, where DATA is empty or does not exist yet."""
    folder = Folder.init(tmp_path / "hub")
    made = make_adapter(tmp_path / "a")
    folder.publish(made, task="nli", subtask="mnli", owner="ada", name="nli-a", license="MIT")
    data = tmp_path / "data"
    if there:
        data.mkdir()
    done = cli("hub", "import", folder.path, "--to", data)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (data / "hub.db").is_file()
    found = re.search(r"ahub_\S+", done.stdout)
    assert found is not None
    hub = new_hub("data")
    assert not hub.token  # it is no new hub any more
    hub.token = found[0]
    assert hub.ask("GET", "/api/whoami-v2").json["name"] == "admin"
    assert hub.ask("GET", "/adapters/ada/nli-a/", token=None).status == 200
    tokens = hub.ask("GET", "/api/hub/v1/tokens").json
    assert [row["name"] for row in tokens if not row.get("revoked")] == ["first run"]


def test_a_folder_of_cards_becomes_a_folder(tmp_path: Path) -> None:
    """Without files there is nothing for a server to check: a new place is a hub folder, as ever."""
    defects = Path(__file__).parents[1] / "cards_with_defects"
    cli("hub", "import", defects, "--to", tmp_path / "new")
    assert (tmp_path / "new" / "hub.yaml").is_file()
    assert not (tmp_path / "new" / "hub.db").exists()
