"""The table of model families: where is X in model Y? One row a family, a file a kind of model.

Paths were read from transformers 5.x sources; a test resolves every row on a tiny model of its family.
"""

from __future__ import annotations

from adapterhub.architectures.rows import Row
from adapterhub.architectures.table import (
    decoders,
    encoders,
    modern,
    multimodal,
    recurrent,
    seq2seq,
    speech,
    towers,
    vision,
)
from adapterhub.errors import ConfigError

_KINDS = (encoders, decoders, modern, recurrent, seq2seq, vision, towers, speech, multimodal)
TABLE: dict[str, Row] = {row.model_type: row for kind in _KINDS for row in kind.ROWS}


def row_for(model_type: str) -> Row | None:
    """Return the row of a model family, or ``None`` where the detector has to look."""
    return TABLE.get(model_type)


def register_row(row: Row, *, replace_existing: bool = False) -> None:
    """Add a family to the table, e.g. a row printed by ``adapterhub inspect`` and reviewed.

    Raises:
        ConfigError: the family is there already and *replace_existing* is False.
    """
    if row.model_type in TABLE and not replace_existing:
        raise ConfigError(
            f"The table has a row for '{row.model_type}' already; pass replace_existing=True to replace it."
        )
    TABLE[row.model_type] = row
