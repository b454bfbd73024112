"""What is printed and written of the results: JSON, a table, and a plot for each curve."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

from bench.designs import Design
from bench.measuring import Curve, Figure

mpl.use("svg")
# The same numbers make the same file.
mpl.rcParams["svg.hashsalt"] = "profiled-spawner"
mpl.rcParams["font.size"] = 9

_PACKAGES = ("jupyterhub", "jupyterhub-kubespawner", "kubernetes-asyncio", "PyYAML")
_SIGNS = {"value": "", "ratio": "× ", "difference": "more than ", "gain": "times less than "}


@dataclass
class Results:
    """What was measured so far.

    Attributes:
        machine: What it depends on.
    """

    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    designs: list[Design] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


def describe_machine() -> dict[str, Any]:
    """What the results depend on."""
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        **{package: version(package) for package in _PACKAGES},
    }


def format_line(figure: Figure) -> str:
    """A figure on a line."""
    reached = {None: " ", True: "✔", False: "✘"}[figure.is_reached]
    return f"{reached} {figure.name}: {' | '.join(_cells(figure)[1:4])}"


def format_figures(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table."""
    rows = [_cells(figure) for figure in figures]
    return _format_table(("figure", "median", "baseline", "result", "target", "reached"), rows)


def format_designs(designs: Iterable[Design]) -> str:
    """The designs as a Markdown table."""
    rows = [
        [design.name, *(f"{value:.0f} ms" for value in (design.stall_ms, design.latency_ms, design.cpu_ms))]
        for design in designs
    ]
    return _format_table(("how", "longest stall", "from text to document", "hub CPU"), rows)


def write(results: Results, directory: Path, page: Path | None) -> None:
    """Writes what there is.

    Args:
        results: What was measured.
        directory: Where the JSON and the tables go.
        page: A page of the docs, whose tables are made anew.
    """
    directory.mkdir(parents=True, exist_ok=True)
    everything = {
        "machine": results.machine,
        "figures": [figure.to_json() for figure in results.figures],
        "designs": [asdict(design) for design in results.designs],
        "curves": [asdict(curve) for curve in results.curves],
    }
    (directory / "results.json").write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    tables = {
        "figures": format_figures(results.figures),
        "designs": format_designs(results.designs),
        "machine": ", ".join(f"{name} {value}" for name, value in results.machine.items()) + "\n",
    }
    (directory / "tables.md").write_text("\n".join(tables.values()))
    if page is not None:
        text = page.read_text()
        for name, table in tables.items():
            between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            text = between.sub(lambda match, table=table: match[1] + table + match[2], text)
        page.write_text(text)


def draw(curve: Curve, file: Path) -> None:
    """Draws a curve."""
    figure, axes = pyplot.subplots(figsize=(4.8, 2.8), layout="constrained")
    for (name, values), marker in zip(curve.series.items(), "os^D", strict=False):
        axes.plot(curve.x, values, marker=marker, markersize=4, label=name)
    axes.set_xscale("log" if curve.is_logarithmic else "linear")
    # A curve that hardly changes would lie on the upper edge, half of it cut off.
    axes.set_ylim(0, 1.15 * max(value for values in curve.series.values() for value in values))
    axes.set_xlabel(curve.x_name)
    axes.set_ylabel(curve.y_name)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _cells(figure: Figure) -> list[str]:
    unit = f" {figure.unit}" if figure.unit else ""
    difference = unit if figure.compared in ("value", "difference") else ""
    result = f"{_SIGNS[figure.compared] if figure.compared == 'ratio' else ''}{_number(figure.result)}{difference}"
    if figure.compared == "difference":
        result = f"{figure.result:+.2f}{unit}"
    elif figure.compared == "gain":
        result = f"{_number(figure.result)} times less"
    target = ""
    if figure.target is not None:
        words = {"value": "≤ {}", "ratio": "≤ × {}", "difference": "≤ +{}", "gain": "≥ {} times less"}
        target = words[figure.compared].format(f"{figure.target:g}{difference}")
    beside = ""
    if figure.baseline:
        beside = f"{figure.baseline_name}: {_number(_median(figure.baseline))}{unit}"
    reached = {None: "", True: "✔", False: "✘"}[figure.is_reached]
    return [figure.name, f"{_number(_median(figure.values))}{unit}", beside, result, target, reached]


def _median(values: list[float]) -> float:
    return Figure("", "", values).result


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
