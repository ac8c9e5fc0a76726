"""Pictures: learning curves, and where a fusion layer looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapterhub.training.evaluate import Result

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def learning_curves(results: Sequence[Result], path: Path, title: str) -> None:
    """Draw validation accuracy over steps, one line a method; several seeds give a band.

    Args:
        results: trainings with curves of the same steps.
        path: of the PNG.
    """
    figure, axes = _figure(8.4, 4.6)
    methods = list(dict.fromkeys(result.method for result in results))
    ends = []
    for colour, method in zip(COLOURS, methods, strict=False):
        group = [result for result in results if result.method == method]
        steps = [step for step, _ in group[0].curve]
        values = 100 * np.array([[value for _, value in result.curve] for result in group])
        mean = values.mean(0)
        axes.plot(steps, mean, color=colour, linewidth=2.2, marker="o", markersize=4.5, zorder=3)
        if len(group) > 1:
            axes.fill_between(
                steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0
            )
        ends.append((float(mean[-1]), steps[-1], colour, f"{method}  {mean[-1]:.1f}"))
    _label_ends(axes, ends)
    axes.set_xlabel("training step")
    axes.set_ylabel("validation accuracy, %")
    axes.set_title(title, loc="left", fontsize=12, pad=12)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.03)
    _write(figure, path)


def _label_ends(axes: Any, ends: list[tuple[float, int, str, str]]) -> None:
    """Write each line's name at its end, moved apart where lines meet."""
    low, high = axes.get_ylim()
    gap, last = (high - low) * 0.06, -float("inf")
    for value, step, colour, text in sorted(ends):
        y = max(value, last + gap)
        last = y
        axes.annotate(
            text,
            (step, y),
            xytext=(9, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=10,
            annotation_clip=False,
        )


def fusion_heat_map(weights: np.ndarray, adapters: Sequence[str], path: Path, title: str) -> None:
    """Draw how much attention each layer's fusion pays to each adapter.

    Args:
        weights: (layers, adapters), rows sum to 1.
        adapters: names of the columns.
        path: of the PNG.
    """
    figure, axes = _figure(1.9 + 1.15 * len(adapters), 1.5 + 0.5 * len(weights))
    image = axes.imshow(
        weights, cmap="viridis", vmin=0, vmax=max(float(weights.max()), 1e-6), aspect="auto"
    )
    axes.set_xticks(range(len(adapters)), labels=list(adapters))
    axes.set_yticks(range(len(weights)), labels=[str(layer) for layer in range(len(weights))])
    axes.set_ylabel("layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    middle = float(weights.max()) * 0.6
    for (layer, column), value in np.ndenumerate(weights):
        colour = "black" if value > middle else "white"
        axes.text(column, layer, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_title(title, loc="left", fontsize=11, pad=12)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("mean attention")
    _write(figure, path)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _write(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white", bbox_inches="tight")
