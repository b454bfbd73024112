"""``python -m bench``: measures everything, prints it as it comes, and writes it down."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench import curves, designs, figures, report
from bench.farside import FarSide
from bench.measuring import Figure
from bench.scale import FULL, SHORT, Scale
from bench.spawning import use
from cluster.assets import AssetsUnavailableError, find_assets

ROOT = Path(__file__).parents[3]


def main() -> None:
    """Runs the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures what profiles cost a hub.")
    parser.add_argument("--short", action="store_true", help="tiny sizes: shows that everything runs, and no cost")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=ROOT / "build" / "bench", help="where the results go: %(default)s"
    )
    parser.add_argument("--docs", action="store_true", help="write them into the docs instead")
    arguments = parser.parse_args()
    out, page = (ROOT / "docs" / "costs", ROOT / "docs" / "costs.md") if arguments.docs else (arguments.out, None)
    scale, results = SHORT if arguments.short else FULL, report.Results(report.describe_machine())
    # On an event loop of its own, since KubeSpawner has one client for each.
    asyncio.run(run_on_real_server(scale, results))
    asyncio.run(run(scale, results, out, page))


async def run_on_real_server(scale: Scale, results: report.Results) -> None:
    """Measures a burst on a real API server, or says why not."""
    try:
        find_assets()
    except AssetsUnavailableError as error:
        print(f"Nothing is measured on a real API server: {error}", flush=True)
        return
    async with FarSide(is_real=True) as far_side:
        use(far_side)
        async for figure in figures.measure_burst(far_side, scale):
            _tell(figure, results)


async def run(scale: Scale, results: report.Results, out: Path, page: Path | None) -> None:
    """Measures everything else, and writes it as it comes: what takes longest comes last."""
    async with FarSide() as far_side:
        use(far_side)
        async for figure in figures.measure(far_side, scale):
            _tell(figure, results)
        async for design in designs.measure(scale):
            print(design, flush=True)
            results.designs.append(design)
        async for curve in curves.measure(far_side, scale):
            print(curve.name, dict(curve.series), flush=True)
            results.curves.append(curve)
        report.write(results, out, page)
        for curve in results.curves:
            report.draw(curve, out / f"{curve.name}.svg")
        async for figure in figures.measure_long(far_side, scale):
            _tell(figure, results)
            report.write(results, out, page)
    print(f"Written to {out}")


def _tell(figure: Figure, results: report.Results) -> None:
    print(report.format_line(figure), flush=True)
    results.figures.append(figure)


if __name__ == "__main__":
    main()
