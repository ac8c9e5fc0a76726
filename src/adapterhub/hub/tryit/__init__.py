"""Trying adapters in the browser, on base models that the hub has on its own disk.

What a visitor types becomes a :class:`~.jobs.Job`; :mod:`.pool` keeps a queue of them and one child
process (:mod:`.worker`), which holds the base models and runs jobs for *different* adapters over one base
in one batch, by row routing (:mod:`.runner`, :mod:`.faces`, :mod:`.pictures`). What is typed for which
type of head says :mod:`.forms`; :mod:`.rows` makes rows of it, :mod:`.reading` a record of what comes
out. :mod:`.models` knows which base models there are,
:mod:`.folders` puts the files of a verified adapter where the child can read them.

The child is confined: it has no network where the system allows to take it away, may write nothing of
size, gets no secret of the server, and is replaced when it dies or hangs. The server
imports no torch; only what runs in the child does.
"""
