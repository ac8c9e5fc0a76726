"""The real clients, each in a process of its own with a fresh home, against a server that runs.

The newest ``huggingface_hub`` is there with transformers, so it is always tested. Other versions and
other libraries lie in ``build/clients/<name>`` (``make clients``); without them their tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import make_adapter
from tests.hub.server.conftest import CLIENTS, Hub

_HUGGINGFACE_HUB = """
import json, sys, tempfile, pathlib
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
)

repo, folder, token = sys.argv[1:4]
api, anybody = HfApi(token=token), HfApi(token=False)
seen = {}

def fails(call, *kinds):
    try:
        call()
    except kinds as error:
        return [type(error).__name__, error.response.status_code, str(error)]
    return None

def read(name, **options):
    return pathlib.Path(hf_hub_download(repo, name, token=False, **options)).read_bytes()

seen["whoami"] = api.whoami()["name"]
seen["create"] = [str(api.create_repo(repo)), str(api.create_repo(repo, exist_ok=True))]
seen["empty"] = fails(lambda: anybody.model_info(repo), RepositoryNotFoundError)
first = api.upload_folder(repo_id=repo, folder_path=folder)
again = api.upload_folder(repo_id=repo, folder_path=folder)
seen["unchanged"] = first.oid == again.oid
info = anybody.model_info(repo, files_metadata=True)
seen["sha"] = info.sha == first.oid
seen["tags"] = info.tags
seen["files"] = {s.rfilename: s.size for s in info.siblings}
seen["listed"] = [m.id for m in anybody.list_models(filter="clients", author=repo.split("/")[0])]
seen["pages"] = len(list(anybody.list_models(filter="adapters", limit=3)))
seen["equal"] = all(read(p.name) == p.read_bytes() for p in pathlib.Path(folder).iterdir())
local = tempfile.mkdtemp()
snapshot_download(repo, token=False, local_dir=local)
cached = snapshot_download(repo, token=False)
names = sorted(p.name for p in pathlib.Path(folder).iterdir())
seen["snapshots"] = [
    sorted(p.name for p in pathlib.Path(f).iterdir() if p.is_file()) == names for f in (local, cached)
]
api.create_branch(repo, branch="exp/a")
api.create_tag(repo, tag="v1", tag_message="first")
other = {"path_or_fileobj": b"# other\\n", "path_in_repo": "README.md"}
branch = api.upload_file(**other, repo_id=repo, revision="exp/a")
seen["branch"] = read("README.md", revision="exp/a") == b"# other\\n" and read("README.md") != b"# other\\n"
refs = anybody.list_repo_refs(repo)
seen["refs"] = [sorted(b.name for b in refs.branches), [t.name for t in refs.tags]]
seen["commits"] = len(api.list_repo_commits(repo, revision="exp/a"))
seen["paths"] = [p.path for p in anybody.get_paths_info(repo, ["README.md", "nope"], expand=True)]
seen["tree"] = sorted(p.path for p in anybody.list_repo_tree(repo, recursive=True))
seen["errors"] = [
    fails(lambda: anybody.model_info(repo + "x"), RepositoryNotFoundError),
    fails(lambda: hf_hub_download(repo, "nope.txt", token=False), EntryNotFoundError),
    fails(lambda: hf_hub_download(repo, "README.md", revision="nope", token=False), RevisionNotFoundError),
    fails(lambda: api.upload_file(
        path_or_fileobj=b"late", path_in_repo="x.md", repo_id=repo, parent_commit="0" * 40), HfHubHTTPError),
    fails(lambda: api.upload_file(
        path_or_fileobj=b"\\x80\\x04\\x95evil.", path_in_repo="adapter.bin", repo_id=repo), HfHubHTTPError),
    fails(lambda: api.create_repo("somebody-else/x"), HfHubHTTPError),
    fails(lambda: anybody.create_repo("admin/x"), HfHubHTTPError),
]
try:
    api.upload_file(path_or_fileobj=b"---\\na: [1\\n---\\n", path_in_repo="README.md", repo_id=repo)
except ValueError as error:
    seen["bad card"] = str(error)
try:
    HfApi(token="ahub_wrong").whoami()
except Exception as error:
    seen["bad token"] = str(error)
from huggingface_hub import CommitOperationCopy
copy = CommitOperationCopy("adapter.safetensors", "copy/adapter.safetensors")
api.create_commit(repo, [copy], commit_message="c")
api.delete_folder("copy", repo)
api.delete_file("README.md", repo)
seen["deleted"] = sorted(api.list_repo_files(repo))
update = getattr(api, "update_repo_settings", None) or api.update_repo_visibility
update(repo, private=True)
seen["private"] = [
    fails(lambda: anybody.model_info(repo), RepositoryNotFoundError),
    fails(lambda: anybody.list_repo_files(repo), RepositoryNotFoundError),
    api.model_info(repo).private,
]
api.move_repo(repo, repo + "-moved")
seen["moved"] = api.model_info(repo).id
api.delete_repo(repo + "-moved")
seen["gone"] = fails(lambda: api.model_info(repo + "-moved"), RepositoryNotFoundError) is not None
print("SEEN" + json.dumps(seen))
"""


def run_client(
    hub: Hub,
    tmp_path: Path,
    script: str,
    *arguments: str,
    client: str = "",
    timeout: float = 120,
    **environment: str,
) -> str:
    """Run a script with a client in a process of its own; return what it printed."""
    paths = [str(CLIENTS / client)] if client else []
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS"))
    }
    env |= {
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    env |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **environment}
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    return result.stdout


def seen_by(output: str) -> Any:
    return json.loads(output.rpartition("SEEN")[2])


def need(client: str) -> str:
    if client and not (CLIENTS / client).is_dir():
        pytest.skip(f"no {client} in {CLIENTS}; 'make clients' gets it")
    return client


@pytest.mark.parametrize(
    "client",
    [
        "",
        pytest.param("huggingface_hub-1", marks=pytest.mark.slow),
        pytest.param("huggingface_hub-0.36", marks=pytest.mark.slow),
    ],
)
def test_huggingface_hub(server: Hub, tmp_path: Path, client: str) -> None:
    need(client)
    folder = make_adapter(tmp_path / "adapter", head=True)
    (folder / "README.md").write_text("---\ntags: [clients]\nlicense: mit\n---\n# Hello\n")
    repo = server.new_name()
    seen = seen_by(
        run_client(
            server, tmp_path, _HUGGINGFACE_HUB, repo, str(folder), server.token, client=client
        )
    )
    assert seen["whoami"] == "admin"
    assert seen["create"] == [f"{server.url}/{repo}"] * 2
    assert seen["empty"]
    assert seen["unchanged"]
    assert seen["sha"]
    assert {"clients", "license:mit", "adapters"} <= set(seen["tags"])
    assert seen["files"] == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert repo in seen["listed"]
    assert seen["pages"] <= 3
    assert seen["equal"]
    assert seen["snapshots"] == [True, True]
    assert seen["branch"]
    assert seen["refs"] == [["exp/a", "main"], ["v1"]]
    assert seen["commits"] == 3
    assert seen["paths"] == ["README.md"]
    assert seen["tree"] == sorted(seen["files"])
    kinds = [item[1] for item in seen["errors"]]
    assert kinds == [404, 404, 404, 412, 422, 403, 401]
    assert "A commit has happened since" in seen["errors"][3][2]
    assert "is a pickle" in seen["errors"][4][2]
    assert "don't have the rights" in seen["errors"][5][2]
    assert "not valid YAML" in seen["bad card"]
    assert "Invalid user token" in seen["bad token"]
    assert seen["deleted"] == sorted(seen["files"].keys() - {"README.md"})
    assert seen["private"][0]
    assert seen["private"][1]
    assert seen["private"][2] is True
    assert seen["moved"] == f"{repo}-moved"
    assert seen["gone"]


_LFS = """
import json, sys, pathlib
from huggingface_hub import HfApi, hf_hub_download
repo, file, token = sys.argv[1:4]
api = HfApi(token=token)
api.upload_file(path_or_fileobj=file, path_in_repo="adapter.safetensors", repo_id=repo)
api.upload_file(path_or_fileobj=file, path_in_repo="adapter.safetensors", repo_id=repo)
path = hf_hub_download(repo, "adapter.safetensors", token=False)
print("SEEN" + json.dumps(pathlib.Path(path).read_bytes() == pathlib.Path(file).read_bytes()))
"""


@pytest.mark.parametrize(
    "client",
    [
        "",
        pytest.param("huggingface_hub-1", marks=pytest.mark.slow),
        pytest.param("huggingface_hub-0.36", marks=pytest.mark.slow),
    ],
)
def test_large_files_by_lfs(server: Hub, tmp_path: Path, client: str) -> None:
    """Above the limit (64 KiB in these tests) files go by LFS, if the client does not insist on Xet."""
    need(client)
    repo = server.new_name()
    server.published(repo)
    weights = tuple(float(number) for number in range(40_000))
    folder = make_adapter(tmp_path / "large", weights=weights)
    file = str(folder / "adapter.safetensors")
    output = run_client(
        server, tmp_path, _LFS, repo, file, server.token, client=client, HF_HUB_DISABLE_XET="1"
    )
    assert seen_by(output) is True
    assert server.ask("GET", f"/api/models/{repo}").json["safetensors"]["total"] == len(weights)


def test_hf_command(server: Hub, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("hf")
    if not command.exists():
        pytest.skip("the hf command is not installed beside this Python")
    folder = make_adapter(tmp_path / "adapter")
    repo = server.new_name()
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    env |= {
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": server.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }

    def hf(*words: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        extra = {"HF_TOKEN": server.token} if token else {}
        return subprocess.run(
            [str(command), *words], env={**env, **extra}, capture_output=True, text=True, timeout=60
        )

    who = hf("auth", "whoami")
    assert "admin" in who.stdout, who
    sent = hf("upload", repo, str(folder), ".")
    assert sent.returncode == 0, sent
    got = hf("download", repo, "--local-dir", str(tmp_path / "got"), token=False)
    assert got.returncode == 0, got
    name = "adapter.safetensors"
    assert (tmp_path / "got" / name).read_bytes() == (folder / name).read_bytes()
    missing = hf("download", server.new_name(), token=False)
    assert missing.returncode != 0
    assert "not found" in (missing.stdout + missing.stderr).lower()


_PEFT = """
import json, sys, torch
from peft import AutoPeftModelForSequenceClassification, LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, BertForSequenceClassification
repo, base, token = sys.argv[1:4]
model = BertForSequenceClassification.from_pretrained(base)
tuned = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=4, base_model_name_or_path="tiny/bert"))
for name, weight in tuned.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weight)
tuned.peft_config["default"].base_model_name_or_path = "tiny/bert"
tuned.base_model.model.name_or_path = "tiny/bert"
tuned.push_to_hub(repo, token=token)
ids = torch.tensor([[5, 6, 7]])
tuned.eval()
wanted = tuned(ids).logits
fresh = BertForSequenceClassification.from_pretrained(base)
loaded = PeftModel.from_pretrained(fresh, repo, token=False).eval()
other = BertForSequenceClassification.from_pretrained(base)
other.load_adapter(repo)
other.eval()
print("SEEN" + json.dumps({
    "peft": torch.equal(loaded(ids).logits, wanted),
    "transformers": torch.allclose(other(ids).logits, wanted, atol=1e-6),
}))
"""


@pytest.mark.slow
def test_peft_and_transformers(server: Hub, tmp_path: Path) -> None:
    client = need("peft")
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "base")
    repo = server.new_name()
    output = run_client(
        server,
        tmp_path,
        _PEFT,
        repo,
        str(tmp_path / "base"),
        server.token,
        client=client,
        HF_HUB_DISABLE_XET="1",
    )
    info = server.ask("GET", f"/api/models/{repo}", token=None).json
    assert info["adapterhub"]["status"] == "verified"
    assert info["adapterhub"]["method"] == "lora"
    assert info["adapterhub"]["rank"] == 4
    assert info["config"]["peft"]["base_model_name_or_path"] == "tiny/bert"
    assert {"peft", "lora", "base_model:adapter:tiny/bert"} <= set(info["tags"])
    assert seen_by(output) == {"peft": True, "transformers": True}


_ADAPTERS = """
import json, sys, torch
import adapters
from adapters import BertAdapterModel, list_adapters
from transformers import BertConfig

repo, token = sys.argv[1:3]
torch.manual_seed(1)
sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
config = BertConfig(vocab_size=40, intermediate_size=32, **sizes)
model = BertAdapterModel(config)
model.base_model.config._name_or_path = model.config._name_or_path = "tiny/bert"
model.add_adapter("a", config="seq_bn")
model.add_classification_head("a", num_labels=3)
for name, weight in model.named_parameters():
    if ".adapters.a." in name:
        torch.nn.init.normal_(weight)
model.push_adapter_to_hub(repo, "a", datasets_tag="sst2", token=token)
model.set_active_adapters("a")
model.eval()
ids = torch.tensor([[5, 6, 7]])
wanted = model(ids).logits
model.delete_adapter("a")
model.delete_head("a")
name = model.load_adapter(repo, use_safetensors=True, set_active=True)
model.eval()
listed = [info.adapter_id for info in list_adapters()]
print("SEEN" + json.dumps({"equal": torch.equal(model(ids).logits, wanted), "listed": listed}))
"""


@pytest.mark.slow
def test_adapters_library(server: Hub, tmp_path: Path) -> None:
    """It pushes pickles, which become safetensors here; it loads those when told so."""
    client = need("adapters")
    repo = server.new_name()
    output = run_client(server, tmp_path, _ADAPTERS, repo, server.token, client=client, timeout=300)
    info = server.ask("GET", f"/api/models/{repo}", token=None).json
    names = [item["rfilename"] for item in info["siblings"]]
    assert not [name for name in names if name.endswith(".bin")]
    assert info["adapterhub"]["head"] is True
    assert "dataset:sst2" in info["tags"]
    seen = seen_by(output)
    assert seen["equal"] is True
    assert repo in seen["listed"]
