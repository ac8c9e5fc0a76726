"""What a hub server remembers: accounts, repositories, commits and the contents of files.

Rows are in one database (:mod:`.models`, SQLite or PostgreSQL), contents in a folder or bucket under
their SHA-256 (:mod:`.blobs`, :mod:`.s3`). Commits are immutable lists of files; a branch has a pointer
for its writers and one for everybody else, and a publication is one change of the latter
(:mod:`.commits`). :mod:`.accounts` and :mod:`.repos` know who may do what, :mod:`.history` reads,
:mod:`.ledger` adds and removes contents safely, :mod:`.jobs` is the queue of the check workers. Nothing
here knows of HTTP; a :class:`~.refusals.Refusal` carries the status that an answer will have.

:mod:`.pending` keeps pieces of files that come in several requests, :mod:`.xorbs` counts those of Xet. A
database or bucket that does not answer raises :data:`~.database.UNREACHABLE` or ``OSError``: the same
request may work later.

Transactions are short and are opened by the callers with ``Database.read`` or ``write``; functions take
the session. Nothing of this package is imported by the rest of the hub, as it needs the ``[hub]`` extra.
"""
