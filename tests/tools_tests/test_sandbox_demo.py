"""``python -m sandbox.demo`` shows what it promises; all that it shows, it checks itself."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "tools"), "NO_COLOR": "1"}


@pytest.mark.processes
async def test_the_demo_shows_choices_and_a_profile_that_ends() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.demo"),
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    said = output.decode()

    assert process.returncode == 0, said
    assert re.search(r"chosen +Forecasting, Large +Forecasting +Minimal\n", said)
    assert re.search(r"profiles +globals, workshop, minimal +globals, minimal\n", said)
    assert "All of it as it should be" in said
