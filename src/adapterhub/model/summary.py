"""The table behind ``adapter_summary``."""

from __future__ import annotations

from typing import Any

from adapterhub.composition import names_in
from adapterhub.engine import Engine
from adapterhub.methods import members, method_for


def summary(engine: Engine, as_dict: bool = False) -> Any:
    """Return rows (name, architecture, #param, %param, active, train) or the same as aligned text."""
    total = sum(
        p.numel()
        for n, p in engine.model.named_parameters()
        if "adapterhub." not in n and "heads." not in n
    )
    active = set(names_in(engine.active.tree)) if engine.active is not None else set()
    rows: list[dict[str, Any]] = []
    for name, record in engine.adapters.items():
        parameters = list(record.parameters())
        count = sum(p.numel() for p in parameters)
        rows.append(
            {
                "name": name,
                "architecture": "+".join(method_for(part).name for part in members(record.config)),
                "#param": count,
                "%param": 100 * count / total if total else 0.0,
                "active": name in active,
                "train": any(p.requires_grad for p in parameters),
            }
        )
    trained = any(
        p.requires_grad
        for n, p in engine.resolved.base.named_parameters()
        if "adapterhub." not in n
    )
    rows.append(
        {
            "name": "Full model",
            "architecture": None,
            "#param": total,
            "%param": 100.0,
            "active": None,
            "train": trained,
        }
    )
    return rows if as_dict else _table(rows)


def _table(rows: list[dict[str, Any]]) -> str:
    header = ["Name", "Architecture", "#Param", "%Param", "Active", "Train"]
    cells = [
        [
            row["name"],
            row["architecture"] or "",
            f"{row['#param']:,}",
            f"{row['%param']:.3f}",
            "" if row["active"] is None else ("yes" if row["active"] else "no"),
            "yes" if row["train"] else "no",
        ]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]

    def line(values: list[str]) -> str:
        left = [values[i].ljust(widths[i]) for i in (0, 1)]
        right = [values[i].rjust(widths[i]) for i in range(2, len(header))]
        return "  ".join(left + right).rstrip()

    rule = "-" * len(line(header))
    return "\n".join(
        [rule, line(header), rule, *map(line, cells[:-1]), rule, line(cells[-1]), rule]
    )
