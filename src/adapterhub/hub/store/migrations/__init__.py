"""Steps from one version of the tables to the next, run by Alembic when a server starts.

A new step is a file in ``versions/``; its name goes into :data:`HEAD`, by which a starting server sees
at once that there is nothing to do. A test compares the result of all steps with ``store/models.py``.
"""

#: The newest step.
HEAD = "0006"
