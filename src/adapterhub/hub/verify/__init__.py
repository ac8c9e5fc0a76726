"""The checks between an upload and its publication.

Every file is examined before it becomes part of a commit (:mod:`.files`): what fails there is refused,
and nothing is stored. A commit as a whole (:mod:`.adapter`, :mod:`.signatures`, :mod:`.duplicates`) and
against its base model (:mod:`.deep`) is then *verified* (everybody sees it), *pending* (a worker is at it),
*held* (it is not a complete adapter yet: only those who may write there see it) or *rejected* (a check
failed). Each result is kept per commit, hash of the file, and version of the check; raise ``VERSION`` of a
check when it comes to a different conclusion about the same bytes. What follows from the files about the
adapter is collected by :mod:`.facts`. :mod:`.intake` is the way of an upload through all this,
:mod:`.examination` does the checks of one commit, :mod:`.worker` runs what takes time or was left over by a
server that was killed, :mod:`.rechecks` finds what older versions of the checks saw.

What touches strangers' files with torch runs in a child process behind walls: :mod:`.convert` for pickles,
and :mod:`.trial` (with :mod:`.trial_head` for prediction heads; started by :mod:`.deep` through
:mod:`.sandbox`, inside :mod:`.limits`), which knows the
configurations of base models from :mod:`.bases` and no weights.

The status word is "format verified": these checks cannot tell whether an adapter does what it claims.
"""
