"""The matrix as text: sums for the terminal, tables in Markdown, a reason for every cell not ``ok``."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

from tests.rules.families import METHODS

from benchmarks.matrix.cells import BLOCKS, FAMILY_RULES, RULES
from benchmarks.matrix.reasons import REASONS

Records = dict[str, dict[str, Any]]
_KINDS = ("ok", "meaningless", "not applicable", "FAILED")


def summary(records: Records) -> str:
    """Return the sums, and the failures, the commonest first."""
    counts = Counter(record["outcome"] for record in records.values())
    seconds = sum(record["seconds"] for record in records.values())
    lines = [f"{len(records)} cells: " + ", ".join(f"{n} {k}" for k, n in counts.most_common())]
    lines.append(f"{seconds / 60:.1f} minutes of processor time")
    failed = Counter(
        (r["check"], r["why"][:150]) for r in records.values() if r["outcome"] == "FAILED"
    )
    lines += [f"  {count:4} {check}: {why}" for (check, why), count in failed.most_common(60)]
    return "\n".join(lines)


def markdown(records: Records) -> str:
    """Return the whole report."""
    import torch
    import transformers

    counts = Counter(record["outcome"] for record in records.values())
    meant = counts["ok"] + counts["FAILED"]
    rate = 100 * counts["ok"] / meant if meant else 0.0
    families = sorted({r["family"] for r in records.values()})
    found = {r["method"] for r in records.values()}
    methods = [method for method in METHODS if method in found]
    whole = len(families) * (len(methods) * (len(RULES) + 2 * len(BLOCKS)) + len(FAMILY_RULES))
    lines = [
        "# The rules over all methods, families and blocks",
        "",
        "Written by `python -m benchmarks.matrix --report docs/matrix.md` with transformers "
        f"{transformers.__version__} and torch {torch.__version__.split('+')[0]} on a CPU: "
        f"{len(families)} families of the table × {len(methods)} methods × the rules and blocks below, on "
        "tiny models with random weights and adapters with random weights.",
        "",
        f"**{len(records)} cells: {counts['ok']} ok, {counts['FAILED']} failed, so {rate:.2f} % of those "
        f"that have a meaning; {counts['meaningless']} have none (the library refuses them with an error, "
        f"listed below), in {counts['not applicable']} the bare model itself does not keep the rule.**",
        "",
        f"All combinations would be {whole} cells; those here are drawn evenly from families, methods and "
        "checks (generation with blocks and compiling more thinly), and the command goes on with the rest.",
        "",
        "A cell is *not applicable* only if the same check fails on the model without adapters, which is "
        "tried; where keys or hidden positions are added, also if the model's own two attentions (eager and "
        "sdpa) disagree about a mask without adapters. A refusal counts as *meaningless* only if it is one "
        "of the errors listed below; every other error is a failure.",
        "",
        *_by_check(records),
        *_by_family(records, families, methods),
        *_reasons(records),
        *_not_applicable(records),
        *_failures(records),
    ]
    return "\n".join(lines) + "\n"


_ABOUT = {
    "1 base": "weights, keys, saved files and outputs of the base model stay; detaching leaves no trace",
    "2 gradients": "exactly on what is being trained, and not zero",
    "3 generation": "with a cache as without: greedy, beams, sampling, static cache; padding left and right",
    "4 compile": "`torch.compile(fullgraph=True)`, same values",
    "4 export": "`torch.export`, same values",
    "4 rerouting": "other rows of a Route make no new graph",
    "5 checkpointing": "both kinds of gradient checkpointing give the same gradients",
    "6 threads": "threads with different setups on one model do not meet",
    "7 dtype": "adapters follow the model to bfloat16 and back, and train there",
    "8 ddp": "gradients of two processes are those of one, `DistributedDataParallel`",
    "8 fsdp": "gradients of two processes are those of one, FSDP2",
}


def _by_check(records: Records) -> list[str]:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records.values():
        table[record["check"]][record["outcome"]] += 1
    lines = [
        "## By rule and block",
        "",
        "| | " + " | ".join(_KINDS) + " | |",
        "|---|" + "---:|" * 4 + "---|",
    ]
    singles = sorted(c for c in table if c[0].isdigit())
    blocks = [c for c in table if not c[0].isdigit() and "+" not in c]
    generated = sorted(c for c in table if "+" in c)
    for check in (*singles, *blocks, *generated):
        about = _ABOUT.get(check) or (
            "with a cache as without"
            if "+" in check
            else "outputs are those of the parts; training reaches all"
        )
        counts = " | ".join(str(table[check][kind]) for kind in _KINDS)
        lines.append(f"| {check} | {counts} | {about} |")
    return [*lines, ""]


def _by_family(records: Records, families: list[str], methods: list[str]) -> list[str]:
    marks: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records.values():
        marks[record["family"], record["method"]].append(record)
    lines = [
        "## By family and method",
        "",
        "✓: every cell that applies is ok. A number: so many cells are refused for one of the "
        "reasons below, all "
        "others are ok. ✗: so many failures. –: the method has no place in this family.",
        "",
        "| family | " + " | ".join(methods) + " |",
        "|---|" + "---|" * len(methods),
    ]
    for family in families:
        cells = [_mark(marks[family, method]) for method in methods]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _mark(cells: list[dict[str, Any]]) -> str:
    counts = Counter(cell["outcome"] for cell in cells)
    if not cells:
        return ""
    if counts["FAILED"]:
        return f"✗{counts['FAILED']}"
    if not counts["ok"]:
        return "–"
    return str(counts["meaningless"]) if counts["meaningless"] else "✓"


def _reasons(records: Records) -> list[str]:
    by_reason: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records.values():
        if record["outcome"] == "meaningless":
            by_reason[record["reason"]].append(record)
    lines = [
        "## What has no meaning",
        "",
        "| cells | why | methods | checks | the error, for example |",
    ]
    lines.append("|---:|---|---|---|---|")
    for name, cells in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        methods = _few({cell["method"] for cell in cells})
        checks = _few({cell["check"].replace(" + ", "+") for cell in cells}, 6)
        example = _escape(f"{cells[0]['family']}: {cells[0]['why']}")
        lines.append(
            f"| {len(cells)} | **{name}.** {REASONS[name].why} | {methods} | {checks} | {example} |"
        )
    return [*lines, ""]


def _not_applicable(records: Records) -> list[str]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records.values():
        if record["outcome"] == "not applicable":
            why = re.sub(r"\b[A-Z]\w+(?=Model|For|Attention|Layer)\w*\b", "X", record["why"])
            why = re.sub(r"[\d.]+e[-+]\d+|\d+(\.\d+)?", "n", why.removeprefix("bare model: "))
            check = "generation with blocks" if "+" in record["check"] else record["check"]
            check = check if check[0].isdigit() or "generation" in check else "blocks"
            groups[check, why[:160]].append(record)
    lines = [
        "## Where the bare model does not keep the rule",
        "",
        "| check | cells | why | families |",
    ]
    lines.append("|---|---:|---|---|")
    for (check, why), cells in sorted(groups.items(), key=lambda pair: (pair[0][0], -len(pair[1]))):
        families = _few({cell["family"] for cell in cells}, 40)
        lines.append(f"| {check} | {len(cells)} | {_escape(why)} | {families} |")
    return [*lines, ""]


def _failures(records: Records) -> list[str]:
    failed = [record for record in records.values() if record["outcome"] == "FAILED"]
    if not failed:
        return []
    lines = ["## Failures", "", "| family | method | check | what |", "|---|---|---|---|"]
    for r in failed[:200]:
        lines.append(f"| {r['family']} | {r['method']} | {r['check']} | {_escape(r['why'])} |")
    if len(failed) > 200:
        lines.append(f"| | | | and {len(failed) - 200} more |")
    return [*lines, ""]


def _few(names: set[str], most: int = 12) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
