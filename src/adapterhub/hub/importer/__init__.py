"""Taking over an existing collection of cards, such as the repository of AdapterHub.ml, whole.

The published cards were written by hand over years, and some of what is in them is wrong. Nothing is
dropped for that: what can be mended without guessing is mended (:mod:`.changes` for one card,
:mod:`.across` where it takes several), what cannot is kept as it is (:mod:`.oddities`), and both are
written down, one record a value, in ``import-log.json``. :mod:`.indexes` writes the two layouts of the
index that released libraries read, so a program that found an adapter before finds the same one after.
:mod:`.run` puts the steps in order.
"""

from adapterhub.hub.importer.indexes import index_files
from adapterhub.hub.importer.records import ImportLog, Record
from adapterhub.hub.importer.run import LOG_FILE, import_cards

__all__ = ["LOG_FILE", "ImportLog", "Record", "import_cards", "index_files"]
