"""Writing a hub's pages to disk: complete, checked, the same bytes for the same hub."""

from __future__ import annotations

import filecmp
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from adapterhub.errors import HubError
from adapterhub.hub import folderkeys, folderreports
from adapterhub.hub.catalogue import card_paths
from adapterhub.hub.copies import index as indexes
from adapterhub.hub.copies.paths import path_problem
from adapterhub.hub.hub import Hub
from adapterhub.hub.importer.indexes import index_files
from adapterhub.hub.signing import SigningKey
from adapterhub.hub.static.deadlinks import dead_links
from adapterhub.hub.static.searchparts import search_files
from adapterhub.hub.web import links
from adapterhub.hub.web.folder import FolderSource, blob_of
from adapterhub.hub.web.query import Query
from adapterhub.hub.web.routes import missing
from adapterhub.hub.web.site import ASSETS, Site, asset, asset_names, twin_of

#: Lists what a build wrote, so that the next one can take away what is no longer there.
MANIFEST = ".adapterhub-site"
_SHOWN = 20


@dataclass
class Built:
    """What a build did.

    Attributes:
        root: the folder of pages.
        pages: number of pages.
        written, removed: files that changed; a second build changes none.
        largest: bytes of the largest page, and its path.
    """

    root: Path
    pages: int = 0
    written: int = 0
    removed: int = 0
    largest: tuple[int, str] = (0, "")
    files: set[str] = field(default_factory=set, repr=False)


def build_site(
    hub: Hub,
    out: str | os.PathLike[str],
    *,
    base_url: str | None = None,
    key: SigningKey | None = None,
    days: float = indexes.DEFAULT_DAYS,
) -> Built:
    """Write all pages of a hub below *out*.

    Args:
        hub: the folder hub.
        out: a new or empty folder, or one that an earlier build wrote.
        base_url: the address that the pages will have, such as ``https://example.org/hub/``. Links are
            relative, so it is only needed for snippets that fetch files, previews and the site map.
        key: signs the list of all cards, so that mirrors can tell that nothing was changed.
        days: how long that signature holds.

    Raises:
        HubError: *out* holds something else; *base_url* is no web address; a page has a dead link (all
            are named, and the pages are there to look at).
    """
    if base_url is not None:
        parts = urlsplit(base_url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or parts.query
            or parts.fragment
        ):
            raise HubError(
                f"{base_url!r} is no address of a site; write e.g. https://example.org/hub/"
            )
        base_url = base_url.rstrip("/") + "/"
    root = Path(out).expanduser()
    if root.exists() and not root.is_dir():
        raise HubError(f"{root} is a file; give a folder")
    if root.is_dir() and any(root.iterdir()) and not (root / MANIFEST).is_file():
        raise HubError(f"{root} is not empty and no earlier build; give a new or empty folder")
    if _inside(root, hub.path / "adapters") or root.resolve() == hub.path.resolve():
        raise HubError(f"{root} belongs to the hub itself; give another folder")
    built = Built(root)
    before = _earlier(root)
    source = FolderSource(hub, base_url)
    site = Site(source, static=True)
    root.mkdir(parents=True, exist_ok=True)
    # First, so that a folder half built is known as one.
    if not (root / MANIFEST).is_file():
        (root / MANIFEST).write_text("")
    try:
        _fill(hub, site, source, built, base_url)
        _index(hub, built, key, days)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise HubError(f"{root} could not be written: {error}") from error
    for name in sorted(before - built.files):
        (root / name).unlink(missing_ok=True)
        built.removed += 1
        _remove_empty(root, (root / name).parent)
    (root / MANIFEST).write_text("".join(f"{name}\n" for name in sorted(built.files)))
    dead = dead_links(root, base_url)
    if dead:
        shown = "\n".join(f"  {line}" for line in dead[:_SHOWN])
        more = f"\n  ... and {len(dead) - _SHOWN} more" if len(dead) > _SHOWN else ""
        raise HubError(f"{len(dead)} link(s) in {root} lead nowhere:\n{shown}{more}")
    return built


def _fill(hub: Hub, site: Site, source: FolderSource, built: Built, base_url: str | None) -> None:
    _pages(site, built)
    _files(hub, source, built)
    for name in ASSETS:
        _write(built, f"assets/{asset_names()[name]}", asset(name))
    for path, data in search_files(source).items():
        _write(built, path, data)
    for path, data in index_files(hub.catalogue).items():
        _write(built, f"dist/{path}", data)
    _write(built, ".nojekyll", b"")
    _not_found(site, built, base_url)
    if base_url is not None:
        _write(built, "sitemap.xml", _sitemap(site, base_url))
        _write(built, "robots.txt", f"User-agent: *\nSitemap: {base_url}sitemap.xml\n".encode())


def _index(hub: Hub, built: Built, key: SigningKey | None, days: float) -> None:
    """Write the cards and the list of them, by which a mirror copies the hub."""
    paths = [path for _, path in card_paths(hub.path)]
    paths += sorted((hub.path / folderkeys.FOLDER).glob("*.yaml"))
    paths += sorted((hub.path / folderreports.FOLDER).glob("*/*/*.json"))
    cards = {path.relative_to(hub.path).as_posix(): path.read_bytes() for path in paths}
    cards = {path: data for path, data in cards.items() if path_problem(path) is None}
    for path, data in cards.items():
        _write(built, indexes.CARDS + path, data)
    index = indexes.make_index(cards, name=hub.name, layout="pages")
    _write(built, indexes.INDEX_FILE, indexes.dumps(index))
    if key is not None:
        signature = indexes.sign_index(key, index, days=days)
        _write(built, indexes.SIGNATURE_FILE, signature.dumps())


def _inside(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.resolve(), *path.resolve().parents)


def _earlier(root: Path) -> set[str]:
    """Return what an earlier build wrote; never a path outside."""
    path = root / MANIFEST
    if not path.is_file():
        return set()
    names = path.read_text(encoding="utf-8").splitlines()
    return {n for n in names if n and not n.startswith("/") and ".." not in n.split("/")}


def _write(built: Built, name: str, data: bytes) -> None:
    built.files.add(name)
    path = built.root / name
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    built.written += 1


def _pages(site: Site, built: Built) -> None:
    for path in site.paths():
        page = site.page(path)
        if page is None:
            raise HubError(f"the page {path!r} is listed, but nothing is on it")
        html, place = site.render(page), unquote(path)
        if place + "index.html" in built.files:
            raise HubError(f"two pages have the address {place!r}; rename one of the cards")
        built.pages += 1
        built.largest = max(built.largest, (len(html), place))
        _write(built, place + "index.html", html)
        _write(built, place + links.TWIN, twin_of(page))


def _not_found(site: Site, built: Built, base_url: str | None) -> None:
    """Servers show this at any depth, so its links start at the root of the server."""
    page = missing(site.source, "404.html")
    root = urlsplit(base_url).path if base_url else "./"
    _write(built, "404.html", site.render(page, root=root))


def _files(hub: Hub, source: FolderSource, built: Built) -> None:
    """Copy the files of all versions to where the pages say they are."""
    adapters = source.search(Query(page_size=1_000_000)).adapters
    for adapter in adapters:
        detail = source.detail(adapter.owner, adapter.name)
        for version in detail.versions if detail else ():
            for file in version.files:
                blob = blob_of(hub.path, file)
                if file.href is None or not blob.is_file():
                    continue
                name = unquote(file.href)
                built.files.add(name)
                target = built.root / name
                if target.is_file() and filecmp.cmp(blob, target, shallow=False):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(blob, target)
                built.written += 1


def _sitemap(site: Site, base_url: str) -> bytes:
    rows = "".join(f"<url><loc>{escape(base_url + path)}</loc></url>\n" for path in site.paths())
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'{head}<urlset xmlns="{space}">\n{rows}</urlset>\n'.encode()


def _remove_empty(root: Path, folder: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
