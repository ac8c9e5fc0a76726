"""The hub: where adapters are published, found and fetched.

A hub is a folder. YAML cards say what there is (tasks, subtasks, architectures, and one card per
adapter with all its versions), and the files of the adapters are stored under their own SHA-256, so
that a file is stored once, never changes, and can be checked by anyone. The folder can be copied,
put under version control or shared as it is; a checkout of the original AdapterHub card repository
is a hub, too. Start with :mod:`.hub` for what one can do, :mod:`.identifier` for how adapters are
called, :mod:`.storage` for why nothing is ever half published. The path of a publication is
``publish -> inspection (sniff, tensors, names) -> storage``; that of a question is
``catalogue (cardfile, repairs, schema, cards) -> search | resolve -> pull``. Public keys
(:mod:`.folderkeys`) and signed evaluation reports (:mod:`.folderreports`) lie beside the cards. Adapters
of servers come by :mod:`.fetching` and :mod:`.remote`; :mod:`.signedindex` says how far servers are
believed. No file of this room imports torch or the rooms that touch models.
"""

from adapterhub.hub.cards import (
    AdapterCard,
    AdapterVersion,
    ArchitectureCard,
    Member,
    SubtaskCard,
    TaskCard,
)
from adapterhub.hub.entries import Entry
from adapterhub.hub.findings import Finding
from adapterhub.hub.hub import Hub, default_hub_folder
from adapterhub.hub.identifier import AdapterKey, Identifier, TaskQuery, parse_identifier
from adapterhub.hub.pull import cache_folder

__all__ = [
    "AdapterCard",
    "AdapterKey",
    "AdapterVersion",
    "ArchitectureCard",
    "Entry",
    "Finding",
    "Hub",
    "Identifier",
    "Member",
    "SubtaskCard",
    "TaskCard",
    "TaskQuery",
    "cache_folder",
    "default_hub_folder",
    "parse_identifier",
]
