"""Quotas hold, whatever happens to a hub in whatever order."""

from __future__ import annotations

import logging
import os

import pytest

from quotas.__main__ import run

STEPS = int(os.environ.get("QUOTA_STEPS", "300"))


def test_the_hub_counts_what_the_model_counts(caplog: pytest.LogCaptureFixture) -> None:
    # The hub logs a dozen lines for each start.
    with caplog.at_level(logging.CRITICAL):
        logging.disable(logging.CRITICAL)
        try:
            run(STEPS)
        finally:
            logging.disable(logging.NOTSET)
