"""The census as text: sums for the terminal, and the page `docs/coverage.md`."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

Record = dict[str, Any]
Records = dict[str, Record]

_INTRO = """\
# Which models take which methods

Written by `python -m benchmarks.census --report docs/coverage.md`. Every model type that the installed
transformers knows is built small with random weights, and run on made-up inputs; towers that these do not
reach are run by themselves. A method works (✓) if the output changes, gradients reach its modules, and after
taking it away outputs and `state_dict` keys are those of the bare model, bit for bit. ✓\\* means that some
modules lie in parts that did not run, or that of those that ran fewer than half had no gradient. A number
says why a method does not work; the reasons stand [below the matrix](#reasons). This shows reach and
reversibility, not that adapters of a family train well."""
#: Why types are not built, by what their errors say; the first that fits.
_CATEGORIES = (
    ("part of other models, no class of its own", r"^LookupError"),
    ("needs a package that is not installed", r"^(ImportError|ModuleNotFoundError)|requires the "),
    ("too large, or too slow, even when shrunk", r"^MemoryError|took longer|died"),
    ("its default or shrunk configuration does not build", r""),
)


def summary(records: Records, methods: list[str]) -> str:
    """Return the sums, and the commonest reasons of failure by method."""
    built = _built(records)
    lines = [f"{len(records)} model types tried, {len(built)} built."]
    for method in methods:
        lines.append(f"{method:14} works on {_count(built, method)}")
        reasons = Counter(_why(r, method)[:100] for r in built.values() if not _ok(r, method))
        lines += [f"    {count:4} {reason}" for reason, count in reasons.most_common(6)]
    return "\n".join(lines)


def markdown(files: list[Records], methods: list[str]) -> str:
    """Return the page.

    Args:
        files: the records of one version of transformers each, in any order.
        methods: the columns.
    """
    files = sorted(filter(None, files), key=_version)
    newest = files[-1] if files else {}
    return "\n".join(
        [
            _INTRO,
            "",
            *_versions(files, methods),
            "",
            *_matrix(newest, methods),
            "",
            *_not_built(newest),
            "",
        ]
    )


def _versions(files: list[Records], methods: list[str]) -> list[str]:
    lines = [
        "## By version",
        "",
        "| transformers | torch | model types | built | " + " | ".join(methods) + " |",
        "|---|---|" + "---:|" * (len(methods) + 2),
    ]
    for records in reversed(files):
        built = _built(records)
        first = next(iter(records.values()))
        cells = [
            first.get("transformers", "?"),
            first.get("torch", "?"),
            len(records),
            len(built),
            *(_count(built, method) for method in methods),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _matrix(records: Records, methods: list[str]) -> list[str]:
    reasons = _Reasons()
    rows = []
    for name, record in _built(records).items():
        marks = [_mark(record, method, reasons) for method in methods]
        rows.append([name, record.get("cls", ""), record.get("row", ""), *marks])
    version = next(iter(records.values()), {}).get("transformers", "?")
    lines = [
        f"## Every model type of transformers {version}",
        "",
        "| model type | class | row | " + " | ".join(methods) + " |",
        "|---|---|---|" + ":-:|" * len(methods),
    ]
    lines += ["| " + " | ".join(map(_escape, row)) + " |" for row in rows]
    lines += ["", "## Reasons", ""]
    lines += [f"{number}. {_escape(text)}" for text, number in reasons.numbers.items()]
    return lines


def _not_built(records: Records) -> list[str]:
    found: dict[str, list[str]] = {category: [] for category, _ in _CATEGORIES}
    for name, record in sorted(records.items()):
        if not record["built"]:
            why = record.get("why", "")
            category = next(c for c, pattern in _CATEGORIES if re.search(pattern, why))
            found[category].append(f"| {name} | {_escape(why)} |")
    lines = ["## Not built"]
    for category, rows in found.items():
        if rows:
            lines += ["", f"### {category[0].upper()}{category[1:]} ({len(rows)})", ""]
            lines += ["| model type | error |", "|---|---|", *rows]
    return lines


class _Reasons:
    """Reasons, each with a number, in the order in which they come up."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers) + 1)


def _version(records: Records) -> tuple[int, ...]:
    text = next(iter(records.values())).get("transformers", "0")
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _built(records: Records) -> Records:
    return {name: record for name, record in sorted(records.items()) if record["built"]}


def _count(built: Records, method: str) -> str:
    """Return how many model types take *method*, and of how many if it was not tried on all."""
    works = sum(_ok(record, method) for record in built.values())
    # (a type with a reason of its own, such as no attention at all, was not tried method by method)
    tried = sum(method in r.get("methods", {}) or not r.get("methods") for r in built.values())
    if tried == len(built):
        return str(works)
    return f"{works} of {tried} tried" if tried else "not tried"


def _ok(record: Record, method: str) -> bool:
    return bool(record.get("methods", {}).get(method, {}).get("ok"))


def _mark(record: Record, method: str, reasons: _Reasons) -> str:
    if not _ok(record, method):
        return f"– {reasons.number(_general(_why(record, method), record))}"
    found = record["methods"][method]
    return "✓\\*" if found.get("without_gradient") or found.get("unreached") else "✓"


def _why(record: Record, method: str) -> str:
    found = record.get("methods", {}).get(method, {})
    return str(found.get("why") or record.get("why") or "not tried")


def _general(text: str, record: Record) -> str:
    """Return a reason without what differs from model to model."""
    text = re.sub(r"^[A-Z]\w+: (?=no module|its )", "", text)
    for name in (record["model_type"], record.get("cls")):
        text = text.replace(f"'{name}'", "this model")
    text = re.sub(r"; `adapterhub inspect` lists what there is\.", "", text)
    text = re.sub(r"^\w+Config (asks for|finds)", r"It \1", text).replace(" at this model", "")
    return re.sub(r"(?<= at )\w+\.\d+\.(?=\w+\.)", "*.", text)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
