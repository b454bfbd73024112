"""``python -m quotas --steps 100000``: the long run of the state machine."""

from __future__ import annotations

import argparse
import logging
import time

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import QuotaMachine

__all__ = ["STEPS_OF_ONE", "run"]

STEPS_OF_ONE = 250
"""How many steps happen to one hub, before the next one starts with an empty database."""


def run(steps: int) -> None:
    """Lets at least so many steps happen.

    Raises:
        AssertionError: Hub and model do not agree; hypothesis prints the shortest sequence of steps that it found.
    """
    run_state_machine_as_test(
        QuotaMachine,
        settings=settings(
            max_examples=max(1, -(-steps // STEPS_OF_ONE)),
            stateful_step_count=STEPS_OF_ONE,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m quotas", description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    steps = parser.parse_args().steps
    # The hub logs a dozen lines for each start.
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    run(steps)
    seconds = time.monotonic() - began
    print(
        f"{QuotaMachine.steps:,} steps, of which {QuotaMachine.starts_asked:,} were starts and "
        f"{QuotaMachine.starts_refused:,} were refused, in {seconds:,.0f} s: hub and model agree"
    )


if __name__ == "__main__":
    main()
