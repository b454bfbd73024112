"""``make faults``: runs the table, prints it and writes it to docs/faults.md, whose last part it keeps."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from .bench import run
from .page import PAGE, render, split
from .rows import ROWS

if __name__ == "__main__":
    print("Running every fault; this takes a minute or two.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        page = render(asyncio.run(run(Path(directory), ROWS)))
    _, last = split(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page + last, encoding="utf-8")
    print(page)
