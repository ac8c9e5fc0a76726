"""The checks between an upload and its publication.

Every file is examined before it becomes part of a commit (:mod:`.files`): what fails there is refused,
and nothing is stored. A commit as a whole (:mod:`.adapter`) is then *verified* (everybody sees it),
*held* (it is not a complete adapter yet: only those who may write there see it) or *rejected* (what is
stored is not what was sent). Each result is kept per commit, hash of the file, and version of the check;
raise ``VERSION`` of a check when it comes to a different conclusion about the same bytes. What follows
from the files about the adapter is collected by :mod:`.facts`. :mod:`.intake` is the way of an upload
through all this, :mod:`.worker` does what was left over by a server that was killed, and re-checks.

The status word is "format verified": these checks cannot tell whether an adapter does what it claims.
"""
