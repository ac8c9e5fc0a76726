"""Large files in Xet's format: from the real client, by hand, and as attackers would."""

from __future__ import annotations

import concurrent.futures
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("lz4", reason="Xet's format needs the [hub] extra")

import anyio
from anyio import CapacityLimiter
from sqlalchemy.exc import OperationalError

from adapterhub.errors import HubError
from adapterhub.hub.server import xet_answers, xet_tickets
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.server.xet_answers import Told
from adapterhub.hub.server.xet_tickets import Ticket
from adapterhub.hub.xet.xorbs import MAX_XORB
from tests.hub.conftest import floats, make_adapter, safetensors_bytes
from tests.hub.server.conftest import CLIENTS, Answer, Hub, adapter_files
from tests.hub.server.test_clients import need, run_client, seen_by
from tests.hub.xet.formats import GROUPED, LZ4, chunk, file_of, header, sha256, shard, xorb_of

#: The client that this was made for. Another one may ask for other addresses: see what it does first.
PINNED = "1.8"
_LIMIT = 16 << 10
_ROOM = 6_000_000


def need_client(client: str = "") -> None:
    """Skip unless the client (in a folder of clients, or installed) is the one that this was made for."""
    places = [str(CLIENTS / need(client))] if client else sys.path
    found = next((one.version for one in distributions(name="hf_xet", path=places)), "")
    if not found:
        pytest.skip(f"hf_xet is not installed; these tests are for {PINNED}")
    if found.split(".")[:2] != PINNED.split("."):
        pytest.skip(f"hf_xet is {found}; these tests are for {PINNED}")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    environment = {"ADAPTERHUB_REGULAR_LIMIT": str(_LIMIT), "ADAPTERHUB_XET_STAGED": str(_ROOM)}
    made = Hub(tmp_path_factory.mktemp("xet") / "data", **environment)
    yield made
    made.stop()


def large_weights(seed: int = 1, mebibytes: float = 2) -> bytes:
    """Return weights some of which can be packed well, some of which hardly, and some not at all."""
    chance, quarter = random.Random(seed), int(mebibytes * (1 << 18))
    return safetensors_bytes(
        {
            "bert.encoder.layer.0.output.adapters.a.zeros": ("F32", [quarter // 4], bytes(quarter)),
            "bert.encoder.layer.0.output.adapters.a.w": (
                "F32",
                [quarter // 4],
                floats(*(chance.gauss(0, 1) for _ in range(quarter // 4))),
            ),
            "bert.encoder.layer.0.output.adapters.a.noise": (
                "U8",
                [quarter],
                chance.randbytes(quarter),
            ),
            "bert.encoder.layer.0.output.adapters.a.steps": (
                "F32",
                [quarter // 4],
                floats(*(number % 64 for number in range(quarter // 4))),
            ),
        }
    )


def staged(hub: Hub, push: str = "") -> tuple[int, int]:
    """Return how many xorbs of a push (or of all) the database knows of, and how many lie there."""
    with sqlite3.connect(hub.data / "hub.db") as database:
        query = "SELECT count(*) FROM staged_xorbs WHERE folder LIKE ?"
        (rows,) = database.execute(query, (f"%-{push}%",)).fetchone()
    database.close()
    return rows, len(list((hub.data / "blobs" / "pending").glob(f"xet-*-{push}*/*")))


def lines_of(hub: Hub) -> list[str]:
    """Return method, address and status of all requests so far."""
    found = [json.loads(line) for line in hub.log.read_text().splitlines() if line[0] == "{"]
    return [line["message"] for line in found if line["logger"] == "adapterhub.hub.request"]


# ---------------------------------------------------------------- the real client

_UPLOAD = """
import json, pathlib, sys
from concurrent.futures import ThreadPoolExecutor
from huggingface_hub import HfApi, hf_hub_download
repo, folder, token = sys.argv[1:4]
api = HfApi(token=token)
api.create_repo(repo, exist_ok=True)

def equal(repo, *names):
    return [
        pathlib.Path(hf_hub_download(repo, name, token=token)).read_bytes()
        == pathlib.Path(folder, name).read_bytes()
        for name in names
    ]

seen = {}
api.upload_folder(repo_id=repo, folder_path=folder)
seen["folder"] = equal(repo, "adapter.safetensors", "more.safetensors", "adapter_config.json")
# A new version that has much in common with the one before: the client remembers what it has sent.
path = pathlib.Path(folder, "adapter.safetensors")
data = bytearray(path.read_bytes())
data[-3:] = b"\\0\\0\\0"
path.write_bytes(data)
api.upload_file(path_or_fileobj=str(path), path_in_repo=path.name, repo_id=repo)
seen["changed"] = equal(repo, "adapter.safetensors")
api.upload_file(path_or_fileobj=bytes(data), path_in_repo="same.safetensors", repo_id=repo)
seen["once more"] = api.get_paths_info(repo, ["same.safetensors"])[0].lfs.sha256 == (
    api.get_paths_info(repo, ["adapter.safetensors"])[0].lfs.sha256
)

def push(number):
    name = f"at-once-{number}.safetensors"
    api.upload_file(path_or_fileobj=str(path), path_in_repo=name, repo_id=repo)
    return name

with ThreadPoolExecutor(2) as pool:
    names = list(pool.map(push, range(2)))
for name in names:
    pathlib.Path(folder, name).write_bytes(data)
seen["at once"] = equal(repo, *names)
print("SEEN" + json.dumps(seen))
"""


@pytest.mark.slow
@pytest.mark.parametrize("client", ["", "huggingface_hub-1"])
def test_the_stock_client_pushes(hub: Hub, tmp_path: Path, client: str) -> None:
    need_client(client)
    repo = hub.new_name()
    folder = make_adapter(tmp_path / "adapter")
    (folder / "adapter.safetensors").write_bytes(large_weights())
    (folder / "more.safetensors").write_bytes(large_weights(2, 1))
    before = len(lines_of(hub))
    arguments = (repo, str(folder), hub.token)
    seen = seen_by(run_client(hub, tmp_path, _UPLOAD, *arguments, client=client))
    assert seen == {
        "folder": [True, True, True],
        "changed": [True],
        "once more": True,
        "at once": [True, True],
    }
    told = lines_of(hub)[before:]
    xorbs = [line for line in told if re.search(r"POST \S+/v1/xorbs/default/\w+ 200", line)]
    shards = [line for line in told if re.search(r"POST \S+/v[12]/shards 200", line)]
    # One push for the folder, one for each file after it.
    assert len({line.split("/")[5] for line in shards}) == len(shards) == 5
    assert len(xorbs) >= 5
    assert not [line for line in told if "/info/lfs/" in line or " 5" in line[-4:]]
    assert staged(hub) == (0, 0)
    assert list((hub.data / "staging").iterdir()) == []
    # What came so is like any other file: nothing tells clients to fetch it by Xet.
    served = hub.ask("GET", f"/{repo}/resolve/main/adapter.safetensors", token=None)
    assert served.status == 200
    assert not [name for name in served.headers if "xet" in name]
    for path in ("tree/main?expand=true", "revision/main?blobs=true"):
        assert b"xet" not in hub.ask("GET", f"/api/models/{repo}/{path}").body.lower()


_REFUSED = """
import json, sys
from huggingface_hub import HfApi
repo, file, token = sys.argv[1:4]
try:
    HfApi(token=token).upload_file(path_or_fileobj=file, path_in_repo="a.safetensors", repo_id=repo)
except Exception as error:
    print("SEEN" + json.dumps(str(error)))
"""


@pytest.mark.slow
def test_people_read_why_a_push_was_refused(hub: Hub, tmp_path: Path) -> None:
    need_client()
    repo = hub.new_name()
    hub.published(repo)
    file = tmp_path / "bad.safetensors"
    file.write_bytes(random.Random(1).randbytes(200_000))
    assert "cannot be published" in seen_by(
        run_client(hub, tmp_path, _REFUSED, repo, str(file), hub.token)
    )
    assert staged(hub) == (0, 0)


@pytest.mark.slow
def test_the_hf_command(hub: Hub, tmp_path: Path) -> None:
    need_client()
    command = Path(sys.executable).with_name("hf")
    if not command.exists():
        pytest.skip("the hf command is not installed beside this Python")
    folder = make_adapter(tmp_path / "adapter")
    (folder / "adapter.safetensors").write_bytes(large_weights(3))
    repo = hub.new_name()
    env = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "HUGG"))}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token}
    words = [str(command), "upload", repo, str(folder), "."]
    sent = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert sent.returncode == 0, sent
    served = hub.ask("GET", f"/{repo}/resolve/main/adapter.safetensors", token=None)
    assert served.body == (folder / "adapter.safetensors").read_bytes()
    assert [
        line for line in lines_of(hub) if f"/api/models/{repo}/xet-write-token/main 200" in line
    ]


_PEFT = """
import json, sys, torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, BertForSequenceClassification
repo, token = sys.argv[1:3]
sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
config = BertConfig(vocab_size=40, intermediate_size=32, **sizes)
torch.manual_seed(1)
model = BertForSequenceClassification(config)
lora = LoraConfig(task_type="SEQ_CLS", r=16, base_model_name_or_path="tiny/bert")
tuned = get_peft_model(model, lora)
for name, weight in tuned.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weight)
tuned.peft_config["default"].base_model_name_or_path = "tiny/bert"
tuned.push_to_hub(repo, token=token)
ids = torch.tensor([[5, 6, 7]])
wanted = tuned.eval()(ids).logits
torch.manual_seed(1)
fresh = BertForSequenceClassification(config)
loaded = PeftModel.from_pretrained(fresh, repo, token=False).eval()
print("SEEN" + json.dumps(torch.equal(loaded(ids).logits, wanted)))
"""


@pytest.mark.slow
def test_peft_pushes(hub: Hub, tmp_path: Path) -> None:
    need_client()
    client = need("peft")
    repo = hub.new_name()
    output = run_client(
        hub, tmp_path, _PEFT, repo, hub.token, client=client, timeout=300, HF_HUB_OFFLINE="0"
    )
    assert seen_by(output) is True
    assert [
        line for line in lines_of(hub) if f"/api/models/{repo}/xet-write-token/main 200" in line
    ]


@pytest.mark.slow
def test_a_hub_that_takes_none(new_hub: Callable[..., Hub], tmp_path: Path) -> None:
    """Then all is as without: nothing for a Xet client, and LFS for the others."""
    hub = new_hub(ADAPTERHUB_REGULAR_LIMIT=str(_LIMIT), ADAPTERHUB_XET="0")
    repo = hub.new_name()
    hub.published(repo)
    refused = hub.ask("GET", f"/api/models/{repo}/xet-write-token/main")
    assert refused.status == 404
    assert "HF_HUB_DISABLE_XET=1" in refused.json["error"]
    with sqlite3.connect(hub.data / "hub.db") as database:
        (key,) = database.execute(
            "SELECT value FROM settings WHERE name = 'signing-key'"
        ).fetchone()
    database.close()
    ticket = {"Authorization": f"Bearer {xet_tickets.issue(key, 1, 1, 1)[0]}"}
    address = f"/api/hub/v1/xet/{'0' * 32}/v1/xorbs/default/{'0' * 64}"
    assert hub.ask("POST", address, chunk(b"a"), token=None, headers=ticket).status == 404
    file = tmp_path / "a.safetensors"
    file.write_bytes(large_weights(4, 1))
    script = _REFUSED + '\nprint("SEEN" + json.dumps("sent"))'
    arguments = (repo, str(file), hub.token)
    output = run_client(hub, tmp_path, script, *arguments, HF_HUB_DISABLE_XET="1")
    assert seen_by(output) == "sent"
    served = hub.ask("GET", f"/{repo}/resolve/main/a.safetensors")
    assert served.body == file.read_bytes()


def test_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from adapterhub.hub.server import settings as module

    assert Settings(tmp_path).takes_xet
    assert not Settings.from_environment(tmp_path, {"ADAPTERHUB_XET": "0"}).takes_xet
    assert Settings.from_environment(tmp_path, {"ADAPTERHUB_XET_STAGED": "3k"}).xet_staged == 3072
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert not Settings(tmp_path).takes_xet
    with pytest.raises(HubError, match=r"pip install 'adapterhub\[hub\]'"):
        _ = Settings.from_environment(tmp_path, {"ADAPTERHUB_XET": "1"}).takes_xet


# ---------------------------------------------------------------- by hand


class Push:
    """A push as a client makes it."""

    def __init__(self, hub: Hub, repo: str, token: str = "") -> None:
        self.hub, self.repo = hub, repo
        given = hub.ask("GET", f"/api/models/{repo}/xet-write-token/main", token=token)
        assert given.status == 200, given
        self.ticket = given.json["accessToken"]
        self.place = urlsplit(given.json["casUrl"]).path
        self.name = self.place.rpartition("/")[2]
        self.expires = given.json["exp"]
        names = ("X-Xet-Access-Token", "X-Xet-Cas-Url", "X-Xet-Token-Expiration")
        assert [given.headers[name.lower()] for name in names] == [
            self.ticket,
            given.json["casUrl"],
            str(self.expires),
        ]
        assert given.json["casUrl"].startswith(f"{hub.url}/api/hub/v1/xet/")

    def ask(
        self, path: str, body: bytes | None = None, *, ticket: str | None = None, **headers: str
    ) -> Answer:
        secret = self.ticket if ticket is None else ticket
        method = "GET" if body is None else "POST"
        sent = {"Content-Type": "application/octet-stream", **headers}
        return self.hub.ask(
            method, f"{self.place}/{path}", body, token=secret or None, headers=sent
        )

    def xorb(self, chunks: Sequence[bytes], name: str = "", **more: Any) -> Answer:
        data = b"".join(chunks)
        return self.ask(f"v1/xorbs/default/{name or sha256(data)}", data, **more)

    def shard(self, *files: bytes, xorbs: Sequence[bytes] = (), number: int = 1) -> Answer:
        return self.ask(f"v{number}/shards", shard(files, xorbs))

    def staged(self) -> tuple[int, int]:
        return staged(self.hub, self.name)

    def again(self) -> Push:
        """Begin anew, as after a refusal."""
        return Push(self.hub, self.repo)

    def commit(self, *contents: bytes) -> Answer:
        lines = [
            {
                "key": "lfsFile",
                "value": {"path": f"{place}.safetensors", "algo": "sha256", "oid": sha256(data)},
            }
            for place, data in enumerate(contents)
        ]
        return self.hub.commit(self.repo, {}, extra=lines)

    def has(self, data: bytes) -> bool:
        """Say whether the repository may use this content."""
        body = {
            "operation": "upload",
            "objects": [{"oid": sha256(data), "size": len(data)}],
        }
        answer = self.hub.ask("POST", f"/{self.repo}.git/info/lfs/objects/batch", body).json
        return "actions" not in answer["objects"][0]


def weights(number: int, length: int = 9000) -> bytes:
    return adapter_files(weights=tuple(float(number + place) for place in range(length)))[
        "adapter.safetensors"
    ]


def cut(data: bytes, size: int = 10_000) -> list[bytes]:
    """Cut content into chunks, each packed in another way."""
    pieces = [data[place : place + size] for place in range(0, len(data), size)]
    return [chunk(piece, number % 3) for number, piece in enumerate(pieces)]


@pytest.fixture
def push(hub: Hub) -> Push:
    repo = hub.new_name()
    hub.published(repo)
    return Push(hub, repo)


@pytest.mark.parametrize("number", [1, 2])
def test_a_push_by_hand(hub: Hub, push: Push, number: int) -> None:
    first, second = weights(10), weights(20)
    chunks, others = cut(first), cut(second)
    assert push.ask(f"v1/chunks/default/{'a' * 64}").status == 404
    sent = push.xorb(chunks + others[:1], "1" * 64)
    assert (sent.status, sent.json) == (200, {"was_inserted": True})
    assert push.xorb(chunks + others[:1], "1" * 64).status == 200  # a client that did not hear it
    assert push.xorb(others[1:], "2" * 64).status == 200
    assert push.staged() == (2, 2)
    files = [
        file_of(sha256(first), [("1" * 64, len(first), 0, len(chunks))]),
        file_of(
            sha256(second),
            [
                ("1" * 64, 10_000, len(chunks), len(chunks) + 1),
                ("2" * 64, len(second) - 10_000, 0, len(others) - 1),
            ],
        ),
    ]
    known = [xorb_of("1" * 64, len(chunks) + 1), xorb_of("2" * 64, len(others) - 1)]
    for _ in range(2):  # the second time as a client that did not hear the answer
        ended = push.shard(*files, xorbs=known, number=number)
        assert ended.status == 200
        assert ended.json == ({"result": 1} if number == 1 else {"type": "result"})
    assert push.staged() == (0, 0)
    assert push.commit(first, second).status == 200
    for place, data in enumerate((first, second)):
        assert hub.ask("GET", f"/{push.repo}/resolve/main/{place}.safetensors").body == data


def test_several_shards(hub: Hub, push: Push) -> None:
    """A client with very many files sends several shards; xorbs go after the last one."""
    first, second = weights(30), weights(40)
    assert push.xorb([chunk(first)], "1" * 64).status == 200
    assert push.xorb([chunk(second)], "2" * 64).status == 200
    run = ("1" * 64, len(first), 0, 1)
    assert push.shard(file_of(sha256(first), [run]), xorbs=[xorb_of("1" * 64, 1)]).status == 200
    assert push.staged() == (2, 2)
    run = ("2" * 64, len(second), 0, 1)
    assert push.shard(file_of(sha256(second), [run]), xorbs=[xorb_of("2" * 64, 1)]).status == 200
    assert push.staged() == (0, 0)
    assert push.has(first)
    assert push.has(second)


def test_what_was_broken_off_is_gone_on_with(hub: Hub, push: Push) -> None:
    """The client knows what it has sent by the address; after a while the hub gives the same again."""
    assert push.xorb([chunk(b"a")], "1" * 64).status == 200
    assert Push(hub, push.repo).place != push.place  # somebody is at it
    stranger = hub.user(f"u{time.time_ns()}")
    with sqlite3.connect(hub.data / "hub.db") as database:
        database.execute(
            "UPDATE staged_xorbs SET touched = strftime('%Y-%m-%d %H:%M:%f000', touched, '-5 minutes')"
        )
    database.close()
    assert Push(hub, push.repo).place == push.place
    other = hub.new_name()
    hub.published(other)
    assert Push(hub, other).place != push.place
    assert hub.ask(
        "GET", f"/api/models/{push.repo}/xet-write-token/main", token=stranger
    ).status in (
        403,
        404,
    )
    # What failed once is never gone on with: the client would not send again what is gone.
    refused = push.shard(file_of("0" * 64, [("1" * 64, 1, 0, 1)]))
    assert refused.status == 422
    assert push.staged() == (0, 0)
    assert Push(hub, push.repo).place != push.place


@pytest.mark.slow
def test_clean_up_of_what_was_never_ended(hub: Hub, push: Push) -> None:
    assert push.xorb([chunk(b"a")], "1" * 64).status == 200
    command = [sys.executable, "-m", "adapterhub.cli", "hub", "clean", "--data", str(hub.data)]
    subprocess.run(command, check=True, capture_output=True)
    assert push.staged() == (1, 1)  # too young
    with sqlite3.connect(hub.data / "hub.db") as database:
        database.execute(
            "UPDATE staged_xorbs SET touched = strftime('%Y-%m-%d %H:%M:%f000', touched, '-25 hours')"
        )
    database.close()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "1 piece(s) of unfinished uploads removed" in done.stdout
    assert push.staged() == (0, 0)


@pytest.mark.slow
def test_killed_in_the_middle(new_hub: Callable[..., Hub]) -> None:
    """Nothing of a push is served before its commit, and it can be ended after the next start."""
    hub = new_hub(ADAPTERHUB_REGULAR_LIMIT=str(_LIMIT))
    hub.published("admin/killed")
    push, data = Push(hub, "admin/killed"), weights(50)
    assert push.xorb([chunk(data)], "1" * 64).status == 200
    hub.kill()
    hub.start()
    assert not push.has(data)
    assert push.commit(data).status == 422
    assert list((hub.data / "staging").iterdir()) == []
    run = ("1" * 64, len(data), 0, 1)
    assert push.shard(file_of(sha256(data), [run]), xorbs=[xorb_of("1" * 64, 1)]).status == 200
    assert push.commit(data).status == 200
    assert push.staged() == (0, 0)


def test_two_pushes_at_once(hub: Hub) -> None:
    repo = hub.new_name()
    hub.published(repo)

    def one(number: int) -> tuple[int, bool, tuple[int, int]]:
        push, data = Push(hub, repo), weights(60 + number)
        push.xorb([chunk(data, number % 3)], "1" * 64)  # the same name, for other content
        run = ("1" * 64, len(data), 0, 1)
        ended = push.shard(file_of(sha256(data), [run]), xorbs=[xorb_of("1" * 64, 1)])
        return ended.status, push.has(data), push.staged()

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(6))) == [(200, True, (0, 0))] * 6


@pytest.mark.slow
def test_on_postgresql_and_s3_with_two_servers(postgres: str, bucket: str, tmp_path: Path) -> None:
    """Each request of a push reaches another server, and a real client pushes, too."""
    from adapterhub.hub.store.database import Database
    from adapterhub.hub.store.models import Base

    database = Database(postgres)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
        Base.metadata.drop_all(connection)
    environment = {
        "ADAPTERHUB_DATABASE_URL": postgres,
        "ADAPTERHUB_BLOBS": bucket,
        "ADAPTERHUB_REGULAR_LIMIT": str(_LIMIT),
    }
    one = Hub(tmp_path / "one", **environment)
    two = Hub(tmp_path / "two", **environment)
    try:
        two.token = one.token
        repo = one.new_name()
        one.published(repo)
        push, data = Push(one, repo), weights(70)
        push.hub = two
        assert push.xorb(cut(data), "1" * 64).status == 200
        push.hub = one
        count = len(cut(data))
        file = file_of(sha256(data), [("1" * 64, len(data), 0, count)])
        assert push.shard(file, xorbs=[xorb_of("1" * 64, count)], number=2).json == {
            "type": "result"
        }
        push.hub = two
        assert push.commit(data).status == 200
        with database.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT count(*) FROM staged_xorbs").scalar()
        assert rows == 0
        import boto3

        name, _, prefix = bucket.removeprefix("s3://").partition("/")
        left = boto3.client("s3").list_objects_v2(Bucket=name, Prefix=f"{prefix}/pending/xet-")
        assert left["KeyCount"] == 0
        need_client()
        file = tmp_path / "a.safetensors"
        file.write_bytes(large_weights(5, 1))
        script = _REFUSED + '\nprint("SEEN" + json.dumps("sent"))'
        assert seen_by(run_client(one, tmp_path, script, repo, str(file), one.token)) == "sent"
        found = one.ask("GET", f"/api/models/{repo}/tree/main").json
        oids = {item["path"]: item["lfs"]["oid"] for item in found if "lfs" in item}
        assert oids["a.safetensors"] == sha256(file.read_bytes())
    finally:
        one.stop()
        two.stop()
        database.close()


def _told(work: Callable[[Callable[[int, int], object]], None]) -> tuple[list[Any], bool]:
    """Return the lines of an answer that tells how far *work* is, and whether it was ended."""
    sent, ended = list[Any](), list[bool]()

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def run() -> None:
        answer = Told(work, CapacityLimiter(1), lambda: ended.append(True))
        await answer({"type": "http", "method": "POST"}, receive, send)

    anyio.run(run)
    assert sent[0]["type"] == "http.response.start"
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    return [json.loads(message["body"]) for message in sent[1:]], bool(ended)


def test_an_answer_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xet_answers, "_EVERY_SECONDS", 0.02)

    def work(tell: Callable[[int, int], object]) -> None:
        tell(0, 2)
        time.sleep(0.15)
        tell(1, 2)
        time.sleep(0.15)

    lines, ended = _told(work)
    assert ended
    assert lines[-1] == {"type": "result"}
    seen = {(line["type"], line["verified"], line["total"]) for line in lines[:-1]}
    assert {("validating", 0, 2), ("validating", 1, 2)} <= seen


@pytest.mark.parametrize(
    ("error", "words", "again"),
    [
        (HubError("no such thing"), "no such thing", False),
        (OSError(28, "No space left on device"), "problem with its storage", True),
        (OperationalError("SELECT secret", {}, Exception("gone")), "its storage", True),
        (KeyError("secret"), "fault of the hub", False),
    ],
)
def test_an_answer_says_what_went_wrong(error: Exception, words: str, again: bool) -> None:
    def work(tell: Callable[[int, int], object]) -> None:
        raise error

    (line,), ended = _told(work)
    assert ended
    assert (line["type"], line["retryable"]) == ("error", again)
    assert words in line["message"]
    assert "secret" not in line["message"]


# ---------------------------------------------------------------- as attackers would


def _key(hub: Hub) -> str:
    with sqlite3.connect(hub.data / "hub.db") as database:
        (key,) = database.execute(
            "SELECT value FROM settings WHERE name = 'signing-key'"
        ).fetchone()
    database.close()
    return key


def _parts(ticket: str) -> Ticket:
    return Ticket(*(int(text) for text in ticket.split(".")[1:-1]))


def test_tickets_that_were_forged_or_have_expired(hub: Hub, push: Push) -> None:
    key, good = _key(hub), _parts(push.ticket)
    assert 0 < good.expires - time.time() <= xet_tickets.LIFETIME
    stranger = hub.user(f"u{time.time_ns()}")
    wrong = {
        "none": "",
        "the user's own token": hub.token,
        "made up": "ahubxet.1.1.1.99999999999." + "0" * 64,
        "without a signature": push.ticket.rpartition(".")[0],
        "signed by another hub": xet_tickets.write("00" * 32, good),
        "changed": push.ticket.replace(f".{good.repo}.", f".{good.repo + 1}.", 1),
        "longer": push.ticket.replace(str(good.expires), f"{good.expires}9"),
        "expired": xet_tickets.write(key, replace(good, expires=int(time.time()) - 1)),
        "of no token": xet_tickets.write(key, replace(good, token=999_999)),
        "not ASCII": "ahubxet.\xe4.1",
    }
    for name, ticket in wrong.items():
        for path in ("v1/xorbs/default/" + "1" * 64, "v1/shards", "v2/shards"):
            assert push.ask(path, chunk(b"a"), ticket=ticket).status == 401, name
        assert push.ask(f"v1/chunks/default/{'1' * 64}", ticket=ticket).status == 401, name
    # A ticket is no token: it opens nothing else.
    assert hub.ask("GET", "/api/whoami-v2", token=push.ticket).status == 401
    assert hub.ask("GET", f"/api/models/{push.repo}", token=push.ticket).status == 401
    assert hub.ask("GET", "/api/whoami-v2", token=stranger).status == 200
    gone = xet_tickets.write(key, replace(good, repo=999_999))
    assert push.ask("v1/shards", shard([]), ticket=gone).status == 404
    assert push.staged() == (0, 0)
    assert push.ticket not in hub.log.read_text()


def test_tickets_are_for_those_who_may_push(hub: Hub) -> None:
    reader = hub.user(f"reader{time.time_ns()}", scope="read")
    writer = f"writer{time.time_ns()}"
    token = hub.user(writer)
    public, private, own = hub.new_name(), hub.new_name(), hub.new_name(writer)
    hub.published(public)
    hub.create(private)
    hub.create(own, token=token)

    def ask(repo: str, secret: str | None, rest: str = "main") -> int:
        return hub.ask("GET", f"/api/models/{repo}/xet-write-token/{rest}", token=secret).status

    assert [ask(public, secret) for secret in (None, reader, token)] == [401, 403, 403]
    assert [ask(private, secret) for secret in (None, reader, token)] == [404, 404, 404]
    assert ask("admin/never-was", token) == 404
    assert ask(own, token) == 200
    assert ask(own, token, "nope") == 404
    assert ask(own, token, "main?create_pr=1") == 403
    read_only = hub.ask(
        "POST", "/api/hub/v1/tokens", {"user": writer, "scope": "read", "name": "r"}
    )
    assert ask(own, read_only.json["token"]) == 403


def test_a_ticket_ends_with_its_token_and_the_right_to_push(hub: Hub) -> None:
    name = f"leaver{time.time_ns()}"
    token = hub.user(name)
    organisation = f"org{time.time_ns()}"
    assert hub.ask("POST", "/api/hub/v1/organizations", {"name": organisation}).status == 201
    member = f"/api/hub/v1/organizations/{organisation}/members/{name}"
    assert hub.ask("PUT", member, {"role": "write"}).status == 200
    repo = f"{organisation}/r"
    hub.create(repo, token=token)
    push = Push(hub, repo, token)
    assert push.xorb([chunk(b"a")]).status == 200
    assert hub.ask("PUT", member, {"role": "read"}).status == 200
    assert push.xorb([chunk(b"a")]).status == 403
    assert push.shard().status == 403
    assert hub.ask("DELETE", member).status == 200
    assert push.xorb([chunk(b"a")]).status == 404
    assert hub.ask("PUT", member, {"role": "write"}).status == 200
    number = _parts(push.ticket).token
    assert hub.ask("DELETE", f"/api/hub/v1/tokens/{number}").status == 200
    assert push.xorb([chunk(b"a")]).status == 401
    assert hub.ask(
        "DELETE", "/api/repos/delete", {"name": "r", "organization": organisation}
    ).status
    assert push.staged()[0] == 0


def test_nobody_can_refer_to_what_others_sent(hub: Hub) -> None:
    name = f"thief{time.time_ns()}"
    token = hub.user(name)
    mine, also_mine, theirs = hub.new_name(), hub.new_name(), hub.new_name(name)
    hub.published(mine)
    hub.published(also_mine)
    hub.create(theirs, token=token)
    data = weights(80)
    victim = Push(hub, mine)
    assert victim.xorb([chunk(data)], "1" * 64).status == 200
    file = file_of(sha256(data), [("1" * 64, len(data), 0, 1)])
    # Another user who knows the address and the names; and the same user for another repository.
    for thief in (Push(hub, theirs, token), Push(hub, also_mine)):
        thief.place = victim.place
        refused = thief.shard(file)
        assert refused.status == 422
        assert "did not arrive for this push" in refused.json["error"]
        assert not thief.has(data)
    # Nor does a wrong push of others end this one, or take the place of what it has.
    thief = Push(hub, theirs, token)
    thief.place = victim.place
    assert thief.xorb([chunk(b"evil" * 20)], "1" * 64).status == 200
    assert thief.shard(file).status == 422
    assert victim.shard(file, xorbs=[xorb_of("1" * 64, 1)]).status == 200
    assert victim.has(data)
    assert victim.staged() == (0, 0)


_GOOD = chunk(b"abc")
_WRONG_XORBS = {
    "empty": (b"", 422),
    "text": (b"hello, this is text", 422),
    "cut within a header": (_GOOD + _GOOD[:5], 422),
    "cut within a chunk": (_GOOD + _GOOD[:-1], 422),
    "more than it says": (_GOOD + b"d", 422),
    "another version": (header(3, 0, 3, version=1) + b"abc", 422),
    "another way of packing": (header(3, 9, 4) + b"abc", 422),
    "plain, and of other length": (header(3, 0, 9) + b"abc", 422),
    "a chunk without bytes": (header(0, 0, 0), 422),
    "too long a chunk": (header(3, 1, 200_000) + b"abc", 422),
    "too many chunks": (chunk(b"a") * 8193, 422),
}


@pytest.mark.parametrize(("data", "status"), _WRONG_XORBS.values(), ids=_WRONG_XORBS)
def test_wrong_xorbs(hub: Hub, push: Push, data: bytes, status: int) -> None:
    assert push.xorb([data]).status == status
    assert push.staged() == (0, 0)


def test_xorbs_that_are_too_large_or_misnamed(hub: Hub, push: Push) -> None:
    assert push.ask(f"v1/xorbs/default/{'1' * 64}", bytes(MAX_XORB + 1)).status == 413
    name = "1" * 64
    for path in (f"other/{name}", f"default/{name[1:]}", f"default/{name.replace('1', 'G')}"):
        assert push.ask(f"v1/xorbs/{path}", _GOOD).status == 400
    good, nobody = push.place, "0" * 31 + "1"
    for wrong in ("x" * 32, "0" * 31, "0" * 33, "..", "%2e%2e%2f%2e%2e"):
        push.place = good.rpartition("/")[0] + f"/{wrong}"
        assert push.ask(f"v1/xorbs/default/{name}", _GOOD).status == 404
        assert push.ask("v1/shards", shard([])).status == 404
    push.place = good.rpartition("/")[0] + f"/{nobody}"
    assert push.ask("v1/shards", shard([file_of(name, [(name, 1, 0, 1)])])).status == 422
    assert push.staged() == (0, 0)


def test_what_one_user_may_have_staged(hub: Hub) -> None:
    noise = random.Random(1)
    pieces = [chunk(noise.randbytes(100_000)) for _ in range(25)]
    name = f"packrat{time.time_ns()}"
    token = hub.user(name)
    pushes = []
    for repo in (hub.new_name(name), hub.new_name(name)):
        hub.create(repo, token=token)
        pushes.append(Push(hub, repo, token))
    first, second = pushes
    assert first.xorb(pieces, "1" * 64).status == 200
    assert second.xorb(pieces, "2" * 64).status == 200
    full = second.xorb(pieces, "3" * 64)
    assert full.status == 413
    assert "unfinished uploads" in full.json["error"]
    assert second.xorb(pieces, "2" * 64).status == 200  # in its own place
    # Many at once do not pass together.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        small = pieces[:6]
        sent = pool.map(lambda number: second.xorb(small, f"{number:064x}").status, range(4))
        assert sorted(sent) == [200, 413, 413, 413]
    for push in pushes:
        assert push.shard(file_of("0" * 64, [("9" * 64, 1, 0, 1)])).status == 422
        assert push.staged() == (0, 0)
    assert second.xorb(pieces, "2" * 64).status == 200
    second.shard(file_of("0" * 64, [("9" * 64, 1, 0, 1)]))


def test_quota(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(ADAPTERHUB_REGULAR_LIMIT=str(_LIMIT), ADAPTERHUB_QUOTA_BYTES="100k")
    hub.published("admin/r")
    push = Push(hub, "admin/r")
    noise = chunk(random.Random(1).randbytes(120_000))
    assert push.xorb([noise]).status == 413
    # Packed it would fit, and unpacked it does not.
    data = adapter_files(weights=(0.0,) * 40_000)["adapter.safetensors"]
    small, name = [chunk(data[:100_000], LZ4), chunk(data[100_000:], LZ4)], "1" * 64
    assert push.xorb(small, name).status == 200
    refused = push.shard(file_of(sha256(data), [(name, len(data), 0, 2)]), number=2)
    assert refused.status == 200
    assert refused.json["type"] == "error"
    assert refused.json["retryable"] is False
    assert "are left" in refused.json["message"]
    assert push.staged() == (0, 0)
    # Of files that do not fit together none is kept, also if one would.
    fits, push = weights(100, 8000), Push(hub, "admin/r")
    assert push.xorb([chunk(fits, LZ4), *small], name).status == 200
    both = [
        file_of(sha256(fits), [(name, len(fits), 0, 1)]),
        file_of(sha256(data), [(name, len(data), 1, 3)]),
    ]
    assert push.shard(*both).status == 413
    assert not push.has(fits)
    assert push.staged() == (0, 0)
    # Clients hear it before they send anything.
    body = {"files": [{"path": "a.safetensors", "size": 120_000, "sample": ""}]}
    told = hub.ask("POST", "/api/models/admin/r/preupload/main", body)
    assert told.status == 413
    assert "a.safetensors needs 120.0 kB" in told.json["error"]


def _bomb(size: int = 131_072) -> bytes:
    import lz4.frame

    body = lz4.frame.compress(bytes(30_000_000))
    return header(len(body), GROUPED, size) + body


_NAME = "1" * 64
_DATA = weights(90)
_DIGEST = sha256(_DATA)
_RIGHT = file_of(_DIGEST, [(_NAME, len(_DATA), 0, 1)])
_TAIL = shard([_RIGHT])
_WRONG_SHARDS: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello " * 20,
    "cut": _TAIL[:-20],
    "cut to one file": _TAIL[:-96],
    "more after its end": _TAIL + bytes(48),
    "of another version": shard([_RIGHT], version=3),
    "unknown xorb": shard([file_of(_DIGEST, [("2" * 64, len(_DATA), 0, 1)])]),
    "no such chunk": shard([file_of(_DIGEST, [(_NAME, len(_DATA), 1, 2)])]),
    "more chunks than there are": shard([file_of(_DIGEST, [(_NAME, len(_DATA), 0, 5)])]),
    "chunks backwards": shard([file_of(_DIGEST, [(_NAME, len(_DATA), 1, 0)])]),
    "fewer bytes than there are": shard([file_of(_DIGEST, [(_NAME, len(_DATA) - 1, 0, 1)])]),
    "more bytes than there are": shard([file_of(_DIGEST, [(_NAME, len(_DATA) + 1, 0, 1)])]),
    "wrong SHA-256": shard([file_of("0" * 64, [(_NAME, len(_DATA), 0, 1)])]),
    "the content twice": shard([file_of(_DIGEST, [(_NAME, len(_DATA), 0, 1)] * 2)]),
    "no SHA-256": shard([file_of(_DIGEST, [(_NAME, len(_DATA), 0, 1)], flags=0)]),
    "nothing of it": shard([file_of(_DIGEST, [])]),
    "good, then bad": shard([_RIGHT, file_of("0" * 64, [(_NAME, len(_DATA), 0, 1)])]),
}


@pytest.mark.parametrize("text", _WRONG_SHARDS.values(), ids=_WRONG_SHARDS)
def test_wrong_shards(hub: Hub, push: Push, text: bytes) -> None:
    assert push.xorb([chunk(_DATA)], _NAME).status == 200
    refused = push.ask("v1/shards", text)
    assert refused.status == 422, refused
    assert refused.json["error"]
    assert push.staged() == (0, 0)
    assert list((hub.data / "staging").iterdir()) == []
    assert push.commit(b"never sent").status == 422


def test_bombs(hub: Hub, push: Push) -> None:
    """Content that unpacks to far more than its header says, and files far larger than what was sent."""
    began = time.monotonic()
    assert push.xorb([_bomb()], _NAME).status == 200  # its header could be true
    assert push.shard(file_of(_DIGEST, [(_NAME, 131_072, 0, 1)])).status == 422
    zeros = chunk(bytes(131_072), LZ4)
    assert len(zeros) < 1000
    push = push.again()
    assert push.xorb([zeros] * 100, _NAME).status == 200
    # 26 GB, of which none is written.
    assert push.shard(file_of(_DIGEST, [(_NAME, 131_072 * 100, 0, 100)] * 2000)).status == 413
    push = push.again()
    assert push.xorb([zeros] * 100, _NAME).status == 200
    # 13 MB in all, and 6 are allowed.
    many = [file_of(f"{number:064x}", [(_NAME, 131_072, 0, 1)]) for number in range(100)]
    assert push.shard(*many).status == 413
    assert time.monotonic() - began < 20
    assert push.staged() == (0, 0)


def test_content_that_may_not_be_published(push: Push) -> None:
    for data in (b"\x80\x04\x95" + bytes(40_000), b"PK\x03\x04" + bytes(40_000)):
        push = push.again()
        assert push.xorb([chunk(data, LZ4)], _NAME).status == 200
        refused = push.shard(file_of(sha256(data), [(_NAME, len(data), 0, 1)]))
        assert refused.status == 422
        assert "cannot be published" in refused.json["error"]
        assert not push.has(data)
        assert push.staged() == (0, 0)
    # What only shows in the whole is found when it is committed, as with files that came by LFS.
    push, data = push.again(), weights(95)[:-1]
    assert push.xorb([chunk(data)], _NAME).status == 200
    run = (_NAME, len(data), 0, 1)
    assert push.shard(file_of(sha256(data), [run]), xorbs=[xorb_of(_NAME, 1)]).status == 200
    assert push.commit(data).status == 422
