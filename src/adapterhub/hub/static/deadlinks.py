"""Finds links inside a folder of pages that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

# The templates escape < and > in texts and attributes, so a tag ends at the next >.
_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_ATTRIBUTE = re.compile(r"""\s(href|src|action|data-index|id)="([^"]*)\"""")


@dataclass
class _Page:
    """The links of a page, with their lines, and the names that links can point to."""

    links: list[tuple[int, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


def _read(text: str) -> _Page:
    page, line, position = _Page(), 1, 0
    for tag in _TAG.finditer(text):
        line += text.count("\n", position, tag.start())
        position = tag.start()
        for name, value in _ATTRIBUTE.findall(tag[0]):
            if name == "id":
                page.names.add(unescape(value))
            else:
                page.links.append((line, unescape(value)))
    return page


def dead_links(root: Path, site: str | None = None) -> list[str]:
    """Return a line for each link that leads to nothing below *root*.

    Args:
        root: the folder of pages.
        site: the address that *root* will have; links to it are followed, those elsewhere are not.
    """
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    pages: dict[str, _Page] = {}
    for name in sorted(files):
        if name.endswith(".html"):
            pages[name] = _read((root / name).read_text(encoding="utf-8"))
    dead = []
    known: dict[tuple[str, str], bool] = {}
    for name, page in pages.items():
        folder = name.rpartition("/")[0]
        for line, link in page.links:
            key = (folder if not link.startswith("#") else name, link)
            if key not in known:
                known[key] = _leads(name, link, files, pages, site)
            if not known[key]:
                dead.append(f"{name}:{line}: {link}")
    return dead


def _leads(
    name: str, link: str, files: set[str], pages: Mapping[str, _Page], site: str | None
) -> bool:
    base = urlsplit(site.rstrip("/") + "/") if site else None
    parts = urlsplit(link)
    path = parts.path
    if parts.scheme or parts.netloc:
        ours = base is not None and (parts.scheme, parts.netloc) == (base.scheme, base.netloc)
        if not ours or base is None or not path.startswith(base.path):
            return parts.scheme in ("http", "https")
        target = path.removeprefix(base.path)
    elif path.startswith("/"):
        if base is None or not path.startswith(base.path):
            return base is None and path == "/"
        target = path.removeprefix(base.path)
    else:
        folder = PurePosixPath(name).parent.as_posix()
        target = _join("" if folder == "." else folder, path) if path else name
        if target is None:
            return False
    target = unquote(target)
    if target == "" or target.endswith("/"):
        target += "index.html"
    if target not in files:
        return False
    return not parts.fragment or target not in pages or parts.fragment in pages[target].names


def _join(folder: str, path: str) -> str | None:
    """Return *path* seen from *folder*; ``None`` if it leaves the root."""
    parts = folder.split("/") if folder else []
    pieces = path.split("/")
    for piece in pieces:
        if piece == "..":
            if not parts:
                return None
            parts.pop()
        elif piece not in (".", ""):
            parts.append(piece)
    tail = "/" if pieces[-1] in ("", ".", "..") and parts else ""
    return "/".join(parts) + tail
