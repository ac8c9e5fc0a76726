"""Where things are in a transformer: the map between a fixed vocabulary of places and real modules.

A *site* is a place where an adapter can act, named the same way in every model:
``decoder.3.self.q`` is the query projection of the self-attention in layer 3 of the decoder. A model
family is one declarative :class:`Row` in :mod:`~adapterhub.architectures.table`; for a family that has
none, the detector reads the module tree and writes a row, and the probe runs one forward pass to
confirm where the residual additions are. :func:`resolve` turns a row and a model into
:class:`ResolvedModel`: modules, widths and layouts, checked once. Nothing here knows what an adapter is.
"""

from adapterhub.architectures.detector import detect
from adapterhub.architectures.probe import ProbeReport, detect_and_probe, probe
from adapterhub.architectures.resolve import ResolvedModel, ResolvedSite, resolve
from adapterhub.architectures.rows import Fused, Part, PeerPaths, Row, StackRow, Sublayer, Variant
from adapterhub.architectures.sites import SiteKey
from adapterhub.architectures.source import row_to_source
from adapterhub.architectures.table import TABLE, register_row, row_for

__all__ = [
    "TABLE",
    "Fused",
    "Part",
    "PeerPaths",
    "ResolvedModel",
    "ResolvedSite",
    "Row",
    "SiteKey",
    "StackRow",
    "Sublayer",
    "Variant",
    "ProbeReport",
    "detect",
    "detect_and_probe",
    "probe",
    "register_row",
    "resolve",
    "row_for",
    "row_to_source",
]
