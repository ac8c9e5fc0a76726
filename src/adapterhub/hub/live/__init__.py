"""The database of a running hub as a source of pages, beside the one for folders.

:mod:`.places` reads from the facts of a repository what people look for (task, data set, method ...);
:mod:`.liveindex` keeps all repositories and imported cards in one index in memory, in step with the
log of changes; :mod:`.source` answers for one caller, who sees nothing that he has no right to;
:mod:`.detail` and :mod:`.versions` read one repository from the database, :mod:`.norms` keeps the norms
of its tensors. Imported cards (:mod:`.cardrows`) are adapters whose files are elsewhere.

Like the store, this needs the ``[hub]`` extra; it knows nothing of HTTP.
"""
