"""A hub as a folder of pages that any web server can host, with a search that needs no server.

:func:`build_site` writes every page of :mod:`adapterhub.hub.web` with its JSON twin, the index of the
search (:mod:`.searchindex`), the files of the adapters, and the indexes of released libraries; the same
hub gives the same bytes, and what did not change is not written again. A dead link inside fails the build
(:mod:`.deadlinks`). :mod:`.workflow` is the GitHub Actions workflow that checks changed cards and
publishes the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterhub.hub.static.build import Built, build_site
    from adapterhub.hub.static.deadlinks import dead_links

__all__ = ["Built", "build_site", "dead_links"]


def __getattr__(name: str) -> Any:
    """Import on use: the workflow can be written without what the pages need."""
    if name == "dead_links":
        from adapterhub.hub.static.deadlinks import dead_links

        return dead_links
    if name in ("Built", "build_site"):
        from adapterhub.hub.static import build

        return getattr(build, name)
    raise AttributeError(name)
