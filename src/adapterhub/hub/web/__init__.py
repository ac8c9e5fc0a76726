"""The pages of a hub: what people see, and under the same address with ``index.json``, what programs see.

One set of pages for every kind of hub. A page asks a :class:`~.source.Source` (the protocol that a
folder, :mod:`.folder`, and a server's database can give) for plain records, makes a context of them
(:mod:`.pages`), and a Jinja template writes the HTML (:mod:`.site`). Pages work without JavaScript, carry
a strict content security policy, and fetch nothing from elsewhere; text of strangers goes through
:mod:`.text`. Links are relative, so a site works below any address. :mod:`adapterhub.hub.static`
writes all pages to disk.
"""

from adapterhub.hub.web.folder import FolderSource
from adapterhub.hub.web.query import Query
from adapterhub.hub.web.site import Answer, Site
from adapterhub.hub.web.source import Source
from adapterhub.hub.web.viewer import Viewer

__all__ = ["Answer", "FolderSource", "Query", "Site", "Source", "Viewer"]
