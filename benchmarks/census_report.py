"""The census as text: sums for the terminal, a matrix in Markdown with a reason for every empty cell."""

from __future__ import annotations

from collections import Counter
from typing import Any

Records = dict[str, dict[str, Any]]


def summary(records: Records, methods: list[str]) -> str:
    """Return the sums, and the commonest reasons of failure by method."""
    built = [record for record in records.values() if record["built"]]
    lines = [f"{len(records)} model types tried, {len(built)} built."]
    for method in methods:
        good = [r for r in built if _ok(r, method)]
        lines.append(f"{method:14} works on {len(good)}")
        reasons = Counter(_why(r, method)[:100] for r in built if not _ok(r, method))
        lines += [f"    {count:4} {reason}" for reason, count in reasons.most_common(6)]
    return "\n".join(lines)


def markdown(records: Records, methods: list[str]) -> str:
    """Return the whole matrix."""
    import torch
    import transformers

    built = {name: record for name, record in sorted(records.items()) if record["built"]}
    sums = " · ".join(
        f"{method} **{sum(_ok(r, method) for r in built.values())}**" for method in methods
    )
    lines = [
        "# Which models take which methods",
        "",
        f"Written by `python -m benchmarks.census --report docs/coverage.md` with transformers "
        f"{transformers.__version__} and torch {torch.__version__.split('+')[0]}. Every model type of "
        "transformers is built small with random weights, and run on made-up inputs; towers that these "
        "do not reach are run by themselves. A method works (✓) if the output changes, gradients reach its "
        "modules, and after taking it away outputs and `state_dict` keys are those of the bare model, bit "
        "for bit. ✓\\* means that some modules lie in parts that did not run, or that of those that ran "
        "fewer than half had no gradient. This shows reach and reversibility, not that adapters of a family "
        "train well.",
        "",
        f"Of {len(records)} model types {len(built)} can be built here; of these take: {sums}.",
        "",
        "| model type | class | row | " + " | ".join(methods) + " | why not |",
        "|---|---|---|" + "---|" * (len(methods) + 1),
    ]
    for name, record in built.items():
        marks, reasons = [], []
        for method in methods:
            ok = _ok(record, method)
            marks.append(_mark(record, method))
            reason = _why(record, method)
            if not ok and reason not in reasons:
                reasons.append(reason)
        cells = [name, record.get("cls", ""), record.get("row", ""), *marks, "; ".join(reasons)]
        lines.append("| " + " | ".join(_escape(cell) for cell in cells) + " |")
    lines += ["", "## Not built", "", "| model type | why |", "|---|---|"]
    for name, record in sorted(records.items()):
        if not record["built"]:
            lines.append(f"| {name} | {_escape(record.get('why', ''))} |")
    return "\n".join(lines) + "\n"


def _ok(record: dict[str, Any], method: str) -> bool:
    return bool(record.get("methods", {}).get(method, {}).get("ok"))


def _mark(record: dict[str, Any], method: str) -> str:
    if not _ok(record, method):
        return "–"
    found = record["methods"][method]
    return "✓\\*" if found.get("without_gradient") or found.get("unreached") else "✓"


def _why(record: dict[str, Any], method: str) -> str:
    found = record.get("methods", {}).get(method, {})
    return str(found.get("why") or record.get("why") or "not tried")


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
