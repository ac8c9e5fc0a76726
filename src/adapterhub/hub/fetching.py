"""Finding and fetching an adapter from a hub server, into a cache of that server.

Every file is compared with the hash that the server states, when it comes and whenever it is taken from the
cache, and a signature with the files. What was fetched once can be had without a network
(``HF_HUB_OFFLINE=1``): the cache remembers which repository an identifier meant, and the hashes. Several
processes may fetch at once; files are locked one by one, and what is remembered is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterhub.configs import parse_config_string
from adapterhub.errors import ConfigError, HubError
from adapterhub.hub.confighash import HASH_PATTERN, all_hashes, library_hash, method_name
from adapterhub.hub.fetchcache import ServerCache, offline
from adapterhub.hub.identifier import AdapterKey, TaskQuery, parse_identifier
from adapterhub.hub.resolve import Ambiguous
from adapterhub.hub.signedfolder import HUB, Requirement, default_requirement, verify_folder
from adapterhub.hub.signedindex import SignedIndex, open_index
from adapterhub.hub.signing import SignatureError
from adapterhub.hub.storage import file_sha256

TASK_TAG = "adapterhub:"
_SHOWN = 8
_CANDIDATES = 50


class Damaged(HubError):
    """What arrived, or lies in the cache, is not what the hub says that it is."""

    final = True


def fetch(
    url: str,
    identifier: str,
    *,
    version: str | None = None,
    base_model: str | None = None,
    config: Any = None,
    token: str | None = None,
    require_signature: Requirement = None,
) -> Path:
    """Bring an adapter from the server at *url* into the cache, every checksum verified.

    Args:
        identifier: ``namespace/name`` or ``@namespace/name``; ``task/subtask`` or
            ``task/subtask@namespace``, if one adapter fits.
        version: branch, tag or commit id.
        base_model: id of the base model that it must be for, for a task.
        config: configuration that it must have, for a task: its name (exactly that configuration where one
            has it, else any of that method), a full configuration, or its hash.
        require_signature: whose signature is needed; see :data:`~.signedfolder.Requirement`.

    Raises:
        Ambiguous: If several fit; each is named.
        Damaged: If what arrives is not what the hub states.
        SignatureError: If the signature is wrong, or is needed and missing.
        HubError: If nothing fits (what is near is named), or the server cannot be reached.
    """
    url = url.rstrip("/")
    cache, required = ServerCache(url), default_requirement(require_signature)
    index = open_index(url, required)
    if offline():
        folder, repo = _from_cache(cache, url, identifier, version, base_model, config)
    else:
        folder, repo = _from_server(
            cache, url, identifier, version, base_model, config, token, index
        )
    if index is not None and not index.vouches(repo, folder, version) and required in (False, HUB):
        # Private, gated, or a commit without a name: so its own signature must stand for it.
        try:
            verify_folder(folder, repo, True)
        except SignatureError as error:
            raise SignatureError(
                f"the signed index of {url} does not list {repo}{f' {version}' if version else ''}, and it "
                f"is not signed itself by a key that you trust: {error}"
            ) from error
    verify_folder(folder, repo, required)
    return folder


def _question(identifier: str, base_model: str | None, config: Any) -> str:
    return json.dumps([identifier.casefold(), base_model, _label(config)])


def _from_cache(
    cache: ServerCache,
    url: str,
    identifier: str,
    version: str | None,
    base_model: str | None,
    config: Any,
) -> tuple[Path, str]:
    repo = cache.recall("meant", _question(identifier, base_model, config))
    commit = cache.recall("commits", json.dumps([repo, version])) if repo else None
    if isinstance(repo, str) and version and commit is None:
        commit = version  # a commit id
    place = cache.folder / "files" / f"models--{str(repo).replace('/', '--')}" / "snapshots"
    hashes = cache.recall("hashes", json.dumps([repo, commit]))
    if not isinstance(repo, str) or not isinstance(hashes, dict):
        raise HubError(
            f"{identifier!r} of {url} was not fetched before, and HF_HUB_OFFLINE forbids to do so now"
        )
    folder = place / str(commit)
    for name, stated in hashes.items():
        _verify(folder / name, stated)
    return folder, repo


def _from_server(
    cache: ServerCache,
    url: str,
    identifier: str,
    version: str | None,
    base_model: str | None,
    config: Any,
    token: str | None,
    index: SignedIndex | None,
) -> tuple[Path, str]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(endpoint=url, token=token)
    try:
        repo = _exact(identifier)
        if repo is None or not (identifier.startswith("@") or _exists(api, repo, index)):
            repo = _by_task(api, identifier, base_model, config, index)
        repo = index.name(repo) if index is not None else repo
        folder = Path(
            snapshot_download(
                repo,
                revision=_revision(index, repo, version),
                endpoint=url,
                token=token,
                cache_dir=cache.folder / "files",
                library_name="adapterhub",
            )
        )
        commit = folder.name
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        known = api.get_paths_info(repo, names, revision=commit)
    except HubError:
        raise
    except RepositoryNotFoundError as error:
        raise HubError(f"there is no {identifier!r} at {url} that you may see") from error
    except Exception as error:
        raise HubError(
            f"{identifier!r} could not be fetched from {url}: {_reason(error)}"
        ) from error
    hashes = {item.path: _stated(item) for item in known}
    missing = sorted(set(names) - set(hashes))
    if missing:
        raise Damaged(f"{url} states no hash for {missing[0]!r} of {repo}")
    for name, stated in hashes.items():
        _verify(folder / name, stated)
    cache.remember("hashes", json.dumps([repo, commit]), hashes)
    cache.remember("commits", json.dumps([repo, version]), commit)
    cache.remember("meant", _question(identifier, base_model, config), repo)
    return folder, repo


def _reason(error: Exception) -> str:
    """Return what the server said, without the client's links and ids around it."""
    response = getattr(error, "response", None)
    said = response.headers.get("x-error-message") if response is not None else None
    return said or str(error) or type(error).__name__


# -- which one ---------------------------------------------------------------------------------------


def _exact(identifier: str) -> str | None:
    name = identifier.removeprefix("@")
    return name if name.count("/") == 1 and "@" not in name else None


def _revision(index: SignedIndex | None, repo: str, version: str | None) -> str | None:
    """Ask for what the index lists as the newest, which can be older than the newest on the server."""
    if index is None or repo not in index:
        return version
    return index.revision(repo, version) or version


def _exists(api: Any, repo: str, index: SignedIndex | None) -> bool:
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if index is not None and repo in index:
        return True
    try:
        api.model_info(repo)
    except (RepositoryNotFoundError, HFValidationError):
        return False
    return True


def _by_task(
    api: Any, identifier: str, base_model: str | None, config: Any, index: SignedIndex | None
) -> str:
    query = parse_identifier(identifier)
    if isinstance(query, AdapterKey) or not isinstance(query, TaskQuery) or not query.subtask:
        raise HubError(
            f"{identifier!r} is not namespace/name, task/subtask or task/subtask@namespace"
        )
    task = f"{query.first}/{query.subtask}"
    if index is not None:
        found = list(index.repos(task=task, model=base_model, owner=query.owner))
    else:
        tags = [f"{TASK_TAG}{task}"] + ([f"base_model:{base_model}"] if base_model else [])
        found = sorted(item.id for item in api.list_models(filter=tags, author=query.owner))
    for_model = f" for {base_model}" if base_model else ""
    if not found:
        raise HubError(
            f"no adapter at {api.endpoint} fits {identifier!r}{for_model}.{_near(api, task, query.subtask)}"
        )
    if len(found) == 1 and config is None:
        return found[0]
    infos = {repo: _info(api, repo, index) for repo in found[:_CANDIDATES]}
    fitting = _with_config(infos, config) if config is not None else found
    if not fitting:
        raise HubError(
            f"no adapter at {api.endpoint} fits {identifier!r}{for_model} with the config "
            f"{_label(config)}; there is:\n{_lines(infos, found)}"
        )
    if len(fitting) > 1:
        raise Ambiguous(
            f"{identifier!r} fits {len(fitting)} adapters; name one, a base model or a config:\n"
            f"{_lines(infos, fitting)}"
        )
    return fitting[0]


def _info(api: Any, repo: str, index: SignedIndex | None) -> dict[str, Any]:
    """Return the content of an adapter's configuration file (small, and checked by the hub)."""
    from huggingface_hub import hf_hub_download

    name, revision = "adapter_config.json", _revision(index, repo, None)
    try:
        path = hf_hub_download(
            repo,
            name,
            revision=revision,
            endpoint=api.endpoint,
            token=api.token,
            cache_dir=ServerCache(api.endpoint).folder / "files",
        )
        if index is not None and revision is not None:
            index.check_file(repo, revision, name, Path(path))
        content = json.loads(Path(path).read_bytes())
    except SignatureError:
        raise
    except Exception:  # a gated or broken one is no match, and its name is shown all the same
        return {}
    return content if isinstance(content, dict) else {}


def _config(info: Mapping[str, Any]) -> dict[str, Any]:
    config = info.get("config")
    return config if isinstance(config, dict) else {}


def _method(info: Mapping[str, Any]) -> str:
    if "peft_type" in info:
        return str(info["peft_type"]).lower()
    return method_name(_config(info)) or "" if _config(info) else ""


def _with_config(infos: Mapping[str, Mapping[str, Any]], config: Any) -> list[str]:
    """Return who has a configuration: exactly that one if anybody has it, else of that method."""
    exact, method = _wanted(config)
    same = [repo for repo, info in infos.items() if exact & all_hashes(_config(info))]
    if same or not method:
        return same
    return [repo for repo, info in infos.items() if _method(info) == method]


def _wanted(config: Any) -> tuple[set[str], str]:
    """Return the hashes of a configuration that is asked for, and the method if any of it will do."""
    to_dict = getattr(config, "to_dict", None)
    if callable(to_dict):
        config = to_dict()
    if isinstance(config, Mapping):
        return set(all_hashes(config)), ""
    if not isinstance(config, str) or not config.strip():
        raise HubError(
            f"config must be a mapping, a name or a hash of 16 hex digits, not {config!r}"
        )
    text = config.strip()
    if HASH_PATTERN.fullmatch(text):
        return {text}, ""
    try:
        full = parse_config_string(text).to_dict()
    except ConfigError as error:
        raise HubError(f"config {text!r} is not a configuration that this library knows") from error
    return set(all_hashes(full)), "" if "[" in text else method_name(full) or text


def _label(config: Any) -> str | None:
    if config is None or isinstance(config, str):
        return config
    to_dict = getattr(config, "to_dict", None)
    value = to_dict() if callable(to_dict) else config
    return library_hash(value) if isinstance(value, Mapping) else repr(value)


def _lines(infos: Mapping[str, Mapping[str, Any]], repos: list[str]) -> str:
    lines = []
    for repo in repos[:_SHOWN]:
        info = infos.get(repo) or {}
        base = info.get("model_name") or info.get("base_model_name_or_path") or "?"
        digest = f", {library_hash(_config(info))}" if _config(info) else ""
        lines.append(f"  @{repo}  ({base}, {_method(info) or '?'}{digest})")
    more = [f"  ... and {len(repos) - _SHOWN} more"] if len(repos) > _SHOWN else []
    return "\n".join(lines + more)


def _near(api: Any, task: str, subtask: str) -> str:
    """Return what else there is for the data set, or for the task."""
    try:
        found = list(api.list_models(search=subtask, limit=_SHOWN))
        found += list(api.list_models(search=task.partition("/")[0], limit=_SHOWN))
    except Exception:  # a hint that cannot be had is none
        return ""
    tags = {
        tag.removeprefix(TASK_TAG)
        for item in found
        for tag in item.tags or ()
        if tag.startswith(TASK_TAG)
    }
    shown = sorted(tags - {task})[:_SHOWN]
    return f" There is: {', '.join(shown)}." if shown else ""


# -- checksums ---------------------------------------------------------------------------------------


def _stated(item: Any) -> str:
    lfs = getattr(item, "lfs", None)
    return f"sha256:{lfs.sha256}" if lfs is not None else f"git:{item.blob_id}"


def _verify(path: Path, stated: str) -> None:
    """Compare a file with the hash that the hub states for it."""
    kind, _, digest = stated.partition(":")
    try:
        if kind == "sha256":
            found, _ = file_sha256(path)
        else:
            data = path.read_bytes()
            head = b"blob %d\0" % len(data)
            found = hashlib.sha1(head + data, usedforsecurity=False).hexdigest()
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error}; fetch it again") from error
    if digest != found:
        raise Damaged(
            f"{path} is damaged: its hash is {found} and not {digest}; remove it and fetch it again"
        )
