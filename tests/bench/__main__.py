"""``python -m bench``: measures everything, prints it as it comes, and writes it down."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench import curves, designs, figures, report
from bench.farside import FarSide
from bench.scale import FULL, SHORT, Scale
from bench.spawning import use

ROOT = Path(__file__).parent.parent.parent


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
    asyncio.run(run(SHORT if arguments.short else FULL, out, page))


async def run(scale: Scale, out: Path, page: Path | None) -> None:
    """Measures everything, and writes it."""
    machine = report.describe_machine()
    async with FarSide() as far_side:
        use(far_side)
        measured_figures = []
        async for figure in figures.measure(far_side, scale):
            print(report.format_line(figure), flush=True)
            measured_figures.append(figure)
        measured_designs = [design async for design in designs.measure(scale)]
        print(f"\n{report.format_designs(measured_designs)}", flush=True)
        measured_curves = [curve async for curve in curves.measure(far_side, scale)]
    report.write(out, page, measured_figures, measured_designs, measured_curves, machine)
    print(f"Written to {out}")


if __name__ == "__main__":
    main()
