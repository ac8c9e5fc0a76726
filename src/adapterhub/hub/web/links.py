"""The addresses of a site, relative to its root. Each ends with a slash; its JSON twin is beside it."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

from adapterhub.hub.web.text import segment

HOME = ""
EXPLORE = "explore/"
LANGUAGES = "languages/"
SEARCH = "search/"
ADAPTERS = "adapters/"
MODELS = "models/"
ARCHITECTURES = "architectures/"
PEOPLE = "people/"
ABOUT = "about/"
COMPARE = "compare/"
COMPARE_TRY = "compare/try/"
TWIN = "index.json"
CARDS = "dist/cards/"


def adapter(owner: str, name: str) -> str:
    """The page of an adapter."""
    return f"adapters/{segment(owner)}/{segment(name)}/"


def versions(owner: str, name: str) -> str:
    """Its versions, and what differs between two."""
    return f"{adapter(owner, name)}versions/"


def trial(owner: str, name: str) -> str:
    """A form to try it."""
    return f"{adapter(owner, name)}try/"


def files(owner: str, name: str) -> str:
    """Its files and their tensors."""
    return f"{adapter(owner, name)}files/"


def blob(owner: str, name: str, version: str, path: str) -> str:
    """One file for download."""
    parts = "/".join(segment(part) for part in path.split("/"))
    return f"{adapter(owner, name)}download/{segment(version)}/{parts}"


def task(type_: str, id_: str) -> str:
    """A task or language with its data sets."""
    return f"tasks/{segment(type_)}/{segment(id_)}/"


def dataset(type_: str, task_: str, id_: str) -> str:
    """A data set with its adapters and results."""
    return f"{task(type_, task_)}{segment(id_)}/"


def language(code: str) -> str:
    """Everything for a language."""
    return f"languages/{segment(code)}/"


def model(name: str) -> str:
    """Everything for a base model."""
    return "models/" + "/".join(segment(part) for part in name.split("/")) + "/"


def architecture(name: str) -> str:
    """A configuration and who uses it."""
    return f"architectures/{segment(name)}/"


def person(name: str) -> str:
    """What somebody published."""
    return f"people/{segment(name)}/"


def compare(identifiers: Iterable[str]) -> str:
    """Adapters side by side, each given as ``@owner/name``."""
    return COMPARE + "?" + urlencode([("a", identifier) for identifier in identifiers])


def listing(page: int) -> str:
    """A page of the list of all adapters."""
    return ADAPTERS if page == 1 else f"adapters/page-{page}/"


def root_of(path: str) -> str:
    """Return the way from the page at *path* back to the root."""
    return "../" * path.count("/") or "./"


def card(path: str) -> str:
    """Where published pages have the card (or report) of that path in the hub folder."""
    return CARDS + "/".join(segment(part) for part in path.split("/"))
