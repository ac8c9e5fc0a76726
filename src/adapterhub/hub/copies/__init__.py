"""Copies of hubs: from a server, a published site or a store into a folder, and from a folder to a server.

Every copy ends as a folder hub (cards and blobs, see :mod:`adapterhub.hub`), which can be kept under version
control, built into pages, used offline, or published to another server. A hub that can be copied is an
:class:`~.origin.Origin`; there are three: :mod:`.published` reads the signed list of cards that our sites
and servers publish below ``dist/``, :mod:`.endpoint` speaks the Hugging Face protocol with any server, and
:mod:`.stored` reads the database and the blobs of a server on this machine. :mod:`.run` does the copying:
it fetches what changed, checks every byte, and makes one adapter after the other visible. :mod:`.index`
is that list of cards, :mod:`.repocard` makes a card of a repository, and :mod:`.upload` goes the other way,
with :mod:`.signedsync` for keys and evaluation reports.

A source may be hostile. :mod:`.wire` limits what it can make us do (addresses, redirects, sizes), names are
checked before they become paths, contents before they are named by a card, and nothing is ever executed.
"""
