"""``make faults``: runs the table, prints it and writes it to docs/faults.md."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from .bench import run
from .page import render
from .rows import ROWS

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"

if __name__ == "__main__":
    print("Running every fault; this takes a minute or two.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        page = render(asyncio.run(run(Path(directory), ROWS)))
    PAGE.write_text(page, encoding="utf-8")
    print(page)
