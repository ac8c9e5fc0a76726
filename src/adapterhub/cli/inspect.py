"""``adapterhub inspect MODEL``: where an adapter can act in a model, and how sure we are of it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from adapterhub.architectures import ResolvedModel
    from adapterhub.architectures.probe import ProbeReport

#: Above this many parameters a model is only laid out on the meta device, not run.
MAX_PARAMETERS = 400_000_000
#: Places that only some configurations ask for, and what asks for them.
_MORE = {
    "tokens": "lora[embedding_lora=True]",
    "vocabulary": "lora[lm_head_lora=True]",
    "experts": "lora[expert_matrices=['gate','up','down']]",
    "norm": "ln_tuning, bitfit",
}
_ORDER = ("q", "k", "v", "o", "kv", "up", "gate", "down", "out")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass
class _Inspection:
    """Everything the three kinds of output are written from."""

    source: str
    model_type: str
    class_name: str
    resolved: ResolvedModel
    report: ProbeReport


def register(app: typer.Typer) -> None:
    """Add ``inspect`` to *app*."""
    app.command("inspect")(inspect_model)


def inspect_model(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder with config.json, or a model type of transformers (bert, llama, …)."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    row: Annotated[
        bool,
        typer.Option(
            "--row", help="Print the row as Python source, to review and pass to register_row."
        ),
    ] = False,
    no_probe: Annotated[
        bool,
        typer.Option("--no-probe", help="Do not run the model; print what its structure says."),
    ] = False,
) -> None:
    """Show the places of a model where adapters can act.

    The row comes from the table of known families or, for any other model, from the detector; one
    forward pass on dummy inputs then confirms where the residual additions are.
    """
    from rich.console import Console

    from adapterhub.errors import AdapterHubError

    try:
        found = _inspect(model, probing=not no_probe)
    except AdapterHubError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {_escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None
    if row:
        from adapterhub.architectures.source import row_to_source

        typer.echo(row_to_source(found.report.corrected), nl=False)
    elif as_json:
        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(found, Console())


# -- loading ---------------------------------------------------------------------------------------


def _inspect(name: str, *, probing: bool) -> _Inspection:
    from adapterhub.architectures import resolve, row_for
    from adapterhub.architectures.detector import detect_with_notes
    from adapterhub.architectures.nested import expanded
    from adapterhub.architectures.probe import ProbeReport, detect_and_probe, probe
    from adapterhub.architectures.resolve import base_model_of

    model, notes = _load(name)
    model_type = str(model.config.model_type)
    row = row_for(model_type)
    if probing and not any(parameter.is_meta for parameter in model.parameters()):
        report = detect_and_probe(model) if row is None else probe(model, row)
    elif row is not None:
        row = expanded(base_model_of(model)[0], row)
        report = ProbeReport(row, row)
    else:
        detection = detect_with_notes(model)
        report = ProbeReport(detection.row, detection.row, findings=list(detection.notes))
    report.findings[:0] = notes
    resolved = resolve(model, report.corrected)
    return _Inspection(name, model_type, type(model).__name__, resolved, report)


def _load(name: str) -> tuple[Any, list[str]]:
    """Return the model of a folder or of a model type, and remarks on how it was made."""
    from transformers import CONFIG_MAPPING, AutoConfig

    from adapterhub.architectures.shrink import shrink
    from adapterhub.errors import ArchitectureError, did_you_mean

    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        try:
            config = AutoConfig.from_pretrained(folder)
        except (ValueError, KeyError, OSError) as error:
            raise ArchitectureError(f"{folder}/config.json: {_first_line(error)}") from error
        return _from_folder(folder, config)
    known = sorted(CONFIG_MAPPING.keys())
    if name not in known:
        if folder.is_dir():
            raise ArchitectureError(f"The folder '{name}' has no config.json.")
        hint = did_you_mean(name.rpartition("/")[2], known) or " `bert` and `llama` are examples."
        raise ArchitectureError(
            f"'{name}' is neither a local folder with a config.json nor a model type of "
            f"transformers.{hint}"
        )
    try:
        model = _build(shrink(CONFIG_MAPPING[name]()))
    except Exception as error:
        raise ArchitectureError(
            f"No small '{name}' can be built from its default config ({type(error).__name__}: "
            f"{_first_line(error)}). Give a folder with the config.json of a real one."
        ) from error
    return model, [
        "A small model of this type was built, with random weights and widths of its own."
    ]


def _from_folder(folder: Path, config: Any) -> tuple[Any, list[str]]:
    import torch

    from adapterhub.errors import ArchitectureError

    try:
        with torch.device("meta"):
            model = _build(config)
        size = sum(parameter.numel() for parameter in model.parameters())
        if size > MAX_PARAMETERS:
            return model, [
                f"{size / 1e9:.1f} billion parameters: laid out without weights and not run."
            ]
        if any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
            return _build(config, folder), []
        return _build(config), ["The folder has no weights; random ones were used."]
    except Exception as error:
        raise ArchitectureError(
            f"{folder}: the model cannot be built ({type(error).__name__}: {_first_line(error)})."
        ) from error


def _build(config: Any, folder: Path | None = None) -> nn.Module:
    """Build the base model of the config's type or, where there is none, the class it names."""
    import transformers

    if type(config) in transformers.AutoModel._model_mapping:
        auto: Any = transformers.AutoModel
    else:
        names = getattr(config, "architectures", None) or [""]
        auto = getattr(transformers, names[0], None)
        if auto is None:
            raise ValueError(f"no model class for {type(config).__name__}")
        return auto(config) if folder is None else auto.from_pretrained(folder)
    return auto.from_config(config) if folder is None else auto.from_pretrained(folder)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


# -- output ----------------------------------------------------------------------------------------


def _as_json(found: _Inspection) -> dict[str, Any]:
    report, resolved = found.report, found.resolved
    stacks = []
    for stack in report.corrected.stacks:
        sites = [site for key, site in resolved.sites.items() if key.stack == stack.name]
        stacks.append(
            {
                "name": stack.name,
                "layers": stack.layers,
                "depth": sum(1 for other in resolved.stack_of_layer if other is stack),
                "topology": report.topology.get(stack.name, {}),
                "sites": [_site_as_json(site, report) for site in sites],
            }
        )
    return {
        "model": found.source,
        "model_type": found.model_type,
        "class": found.class_name,
        "source": report.corrected.source,
        "probed": bool(report.ran),
        "confirmed": report.confirmed,
        "hidden_size": resolved.hidden_size,
        "stacks": stacks,
        "more": {kind: [_site_as_json(s, report) for s in resolved.extras(kind)] for kind in _MORE},
        "findings": report.findings,
    }


def _site_as_json(site: Any, report: ProbeReport) -> dict[str, Any]:
    check = report.sites.get(str(site.key))
    return {
        "site": str(site.key),
        "path": site.path,
        "in_features": site.in_features,
        "out_features": site.out_features,
        "slice": site.slice,
        "blocks": site.blocks,
        "confirmed": None if check is None else check.confirmed,
    }


def _print(found: _Inspection, console: Console) -> None:
    from rich.table import Table

    report = found.report
    origin = {
        "table": "from the table of known families",
        "detected": "written by the detector",
        "user": "registered by you",
    }.get(report.corrected.source, report.corrected.source)
    console.print(
        f"[bold]{_escape(found.class_name)}[/] · model type [bold]{_escape(found.model_type)}[/] · "
        f"hidden size {found.resolved.hidden_size} · row {origin}",
        highlight=False,
    )
    if report.confirmed:
        state = "[green]A forward pass confirmed every block.[/]"
    elif report.ran:
        state = "[yellow]A forward pass confirmed a part; see the remarks.[/]"
    else:
        state = "[yellow]Not run: which output enters the residual addition is a guess.[/]"
    console.print(state, highlight=False)
    for stack in report.corrected.stacks:
        _print_stack(found, stack, console)
    _print_more(found, console)
    missing = _missing(found)
    if missing or report.findings:
        console.print("\n[bold]Remarks[/]")
        remarks = Table.grid(padding=(0, 1))
        for remark in (*missing, *report.findings):
            remarks.add_row("•", _escape(remark))
        console.print(remarks, highlight=False)


def _print_stack(found: _Inspection, stack: Any, console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from adapterhub.architectures.paths import blocks_at, which

    resolved, report = found.resolved, found.report
    blocks = [block.path for block in blocks_at(resolved.base, stack.layers)]
    layers = which(resolved.base, stack.layers) or stack.layers
    depth = sum(1 for other in resolved.stack_of_layer if other is stack)
    table = Table(
        box=SIMPLE_HEAD, title_justify="left", pad_edge=False, title_style="bold", expand=False
    )
    table.title = f"\n{stack.name}: {depth} {'layers' if depth != 1 else 'layer'} at {layers}"
    columns: tuple[tuple[str, dict[str, Any]], ...] = (
        ("sub-layer", {"no_wrap": True}),
        ("point", {"no_wrap": True}),
        ("module in the block", {"overflow": "fold"}),
        ("width", {"no_wrap": True, "justify": "right"}),
        ("seen", {"no_wrap": True}),
    )
    for heading, options in columns:
        table.add_column(heading, **options)
    topologies = report.topology.get(stack.name, {})
    for name, sub in stack.sublayers.items():
        points = _points(found, stack.name, name)
        if not points:
            continue
        rows = [
            (point, _paths(sites, blocks), _widths(sites), _seen(sites, depth, report))
            for point, sites in points.items()
        ]
        for point in ("residual", "norm"):
            if (path := getattr(sub, point)) is not None:
                rows.append((f"[dim]{point}[/]", f"[dim]{_escape(path)}[/]", "", ""))
        labels = [f"[bold]{name}[/]", f"[cyan]{topologies.get(name) or ''}[/]"]
        for label, cells in itertools.zip_longest(labels, rows, fillvalue=""):
            table.add_row(label, *cells)
        table.add_section()
    if stack.embed:
        text = f"input of {stack.embed[1:]}" if stack.embed.startswith(">") else stack.embed
        table.add_row("[bold]embed[/]", "", _escape(text), str(resolved.hidden_size), "")
    console.print(table)


def _print_more(found: _Inspection, console: Console) -> None:
    """Print the places that only some configurations ask for, each with the field that does."""
    lines = []
    for kind, asked in _MORE.items():
        sites = found.resolved.extras(kind)
        if not sites:
            continue
        first = sites[0]
        what = (
            f"[bold]{kind}[/]  {_escape(first.path)}"
            + (f" and {len(sites) - 1} more" if sites[1:] else ""),
            f"{first.in_features} → {first.out_features}" if kind != "norm" else "",
            f"[dim]{_escape(asked)}[/]",
        )
        lines.append(what)
    if lines:
        from rich.table import Table

        console.print("\n[bold]on request[/]")
        grid = Table.grid(padding=(0, 2))
        for line in lines:
            grid.add_row(*line)
        console.print(grid, highlight=False)


def _points(found: _Inspection, stack: str, sublayer: str) -> dict[str, list[Any]]:
    points: dict[str, list[Any]] = {}
    for site in found.resolved.select(sublayer=sublayer, stack=stack):
        points.setdefault(site.key.point, []).append(site)
    return {point: points[point] for point in _ORDER if point in points}


def _paths(sites: list[Any], blocks: list[str]) -> str:
    """The modules inside the block; a fused projection's part with its columns."""
    texts: list[str] = []
    for site in sites:
        text = site.path.removeprefix(f"{blocks[site.key.layer]}.")
        if site.slice is not None:
            text += f" [{site.slice[0]}:{site.slice[1]}]"
            text += f" of {site.blocks}" if site.blocks > 1 else ""
        if text not in texts:
            texts.append(text)
    return _escape(" or ".join(texts))


def _widths(sites: list[Any]) -> str:
    shapes = list(dict.fromkeys((site.in_features, site.out_features) for site in sites))
    if sites[0].key.point in ("out", "kv"):
        return str(shapes[0][1])
    more = " …" if len(shapes) > 1 else ""
    return f"{shapes[0][0]} → {shapes[0][1]}{more}"


def _seen(sites: list[Any], depth: int, report: ProbeReport) -> str:
    checks = [check for site in sites if (check := report.sites.get(str(site.key))) is not None]
    if not checks:
        return "[dim]–[/]"
    good = sum(1 for check in checks if check.confirmed)
    if good == len(sites):
        return "[green]yes[/]" if len(sites) == depth else f"[green]{good} of {depth}[/]"
    return f"[yellow]{good} of {depth}[/]" if good else "[red]no[/]"


def _missing(found: _Inspection) -> list[str]:
    """Say which usual points are not there, by stack and sub-layer."""
    remarks = []
    for stack in found.report.corrected.stacks:
        for name, wanted in (
            ("self", "q v o kv out"),
            ("cross", "q v o kv out"),
            ("ffn", "up down out"),
        ):
            points = _points(found, stack.name, name)
            absent = [point for point in wanted.split() if point not in points]
            if points and absent:
                remarks.append(f"{stack.name}.*.{name}: no {', '.join(absent)}.")
    return remarks


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
