"""The rules with teeth over all methods, families of the table, and blocks: ``python -m benchmarks.matrix``.

A *cell* is a family, a method and a check. A check (``rules.py``, ``generation.py``, ``blocks.py``) is a
function of a :class:`~benchmarks.matrix.subject.Subject` (a tiny model with inputs) and a method; it returns
a note, or raises. :func:`~benchmarks.matrix.cells.run_cell` makes one of four outcomes of that:

- ``ok``;
- ``meaningless``: the library refused with a clear error that is in the list of ``reasons.py``;
- ``not applicable``: the bare model, without any adapter, fails the same check;
- ``FAILED``: anything else, refusals with another error included.
"""
