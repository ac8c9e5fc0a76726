"""``adapterhub info``: what is in a saved adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("info")(info)


def info(
    adapter: str = typer.Argument(..., help="Folder of a saved adapter, or a hub identifier."),
    tensors: bool = typer.Option(False, "--tensors", help="List every tensor."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for scripts."),
) -> None:
    """Show what an adapter is made of: base model, method, configuration, size."""
    from adapterhub.model.files import find_adapter

    facts = describe(find_adapter(adapter))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    _print(facts, tensors)


def describe(folder: Path) -> dict[str, Any]:
    """Return everything that the files of *folder* say."""
    from adapterhub import configs
    from adapterhub.checkpoints import adapters as files
    from adapterhub.checkpoints.files import read_json, read_tensors

    facts = read_json(folder / files.CONFIG)
    config = configs.config_from_file(facts)
    weights = read_tensors(folder, files.WEIGHTS, files.WEIGHTS_BIN)
    head = files.read_head(folder)
    return {
        "name": facts.get("name"),
        "folder": str(folder),
        "model_type": facts.get("model_type"),
        "model_name": facts.get("model_name"),
        "model_class": facts.get("model_class"),
        "hidden_size": facts.get("hidden_size"),
        "written_by": facts.get("version"),
        "config_hash": configs.config_hash(config),
        "config": config.to_dict(),
        "parameters": sum(t.numel() for t in weights.values()),
        "bytes": sum(f.stat().st_size for f in folder.iterdir() if f.is_file()),
        "tensors": {
            k: {"shape": list(v.shape), "dtype": str(v.dtype)[6:]} for k, v in weights.items()
        },
        "head": None
        if head is None
        else head.config.get("config") or {"class": head.config.get("model_class")},
    }


def _print(facts: dict[str, Any], tensors: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"Adapter '{facts['name']}'", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("base model", f"{facts['model_name'] or '(unnamed)'}  ({facts['model_type']})")
    table.add_row("hidden size", str(facts["hidden_size"]))
    table.add_row("parameters", f"{facts['parameters']:,}")
    table.add_row("on disk", f"{facts['bytes'] / 1e6:.2f} MB")
    table.add_row("written by", str(facts["written_by"]))
    table.add_row("config hash", facts["config_hash"])
    table.add_row("head", _head(facts["head"]))
    members = facts["config"].get("configs") or [facts["config"]]
    for number, config in enumerate(members):
        label = "configuration" if len(members) == 1 else f"member {number + 1}"
        shown = ", ".join(
            f"{k}={v!r}" for k, v in config.items() if v not in (None, False, [], 0.0)
        )
        table.add_row(label, shown)
    console.print(table)
    if tensors:
        listing = Table("tensor", "shape", "dtype")
        for name, entry in facts["tensors"].items():
            listing.add_row(name, str(entry["shape"]), entry["dtype"])
        console.print(listing)


def _head(head: dict[str, Any] | None) -> str:
    if head is None:
        return "none"
    kind = head.get("head_type") or head.get("class") or "?"
    labels = head.get("label2id")
    if not isinstance(labels, dict):
        return str(kind)
    return f"{kind}: {', '.join(str(name) for name in labels)}"
