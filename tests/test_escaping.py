"""A text that somebody else wrote cannot steer the log."""

from __future__ import annotations

import logging

import pytest

from profiled_spawner.errors import ChoiceError, Diagnostic, DocumentError, PodError, SourceError
from profiled_spawner.escaping import printable
from profiled_spawner.sources.cache import EscapingLog

UNSEEN = [
    pytest.param("\n", r"\n", id="newline"),
    pytest.param("\r", r"\r", id="carriage-return"),
    pytest.param("\x1b[31m", r"\x1b[31m", id="escape-sequence"),
    pytest.param("\x9b31m", r"\x9b31m", id="c1"),
    pytest.param("\u2028", r"\u2028", id="line-separator"),
    pytest.param("\u202e", r"\u202e", id="right-to-left-override"),
    pytest.param("\ud800", r"\ud800", id="half-a-surrogate-pair"),
    pytest.param("\0", r"\x00", id="nul"),
]


@pytest.mark.parametrize(("unseen", "shown"), UNSEEN)
def test_a_character_that_cannot_be_seen_is_escaped(unseen: str, shown: str) -> None:
    assert printable(f"a{unseen}b é") == f"a{shown}b é"


@pytest.mark.parametrize(("unseen", "shown"), UNSEEN)
def test_a_line_of_the_log_is_one_line(unseen: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    log = EscapingLog(logging.getLogger("hub"))
    log.warning("Profiles for %s: %d", f"ada{unseen}", 3)
    (record,) = caplog.records
    assert record.getMessage() == f"Profiles for ada{shown}: 3"


def test_a_line_of_the_log_names_the_place_that_it_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    EscapingLog(logging.getLogger("hub")).error("here")
    (record,) = caplog.records
    assert record.funcName == "test_a_line_of_the_log_names_the_place_that_it_comes_from"


@pytest.mark.parametrize(("unseen", "shown"), UNSEEN)
@pytest.mark.parametrize("error", [PodError, ChoiceError, lambda text: SourceError(text, outcome="unavailable")])
def test_an_error_is_one_line(error: type[Exception], unseen: str, shown: str) -> None:
    assert str(error(f"at /mnt{unseen}")) == f"at /mnt{shown}"


@pytest.mark.parametrize(("unseen", "shown"), UNSEEN)
def test_an_invalid_document_takes_a_line_for_each_error(unseen: str, shown: str) -> None:
    error = DocumentError([Diagnostic(f"what{unseen}", path=f"path{unseen}")] * 2, source=f"file/a{unseen}")
    assert str(error).splitlines() == [f"file/a{shown} has 2 errors:", *[f"  path{shown}: what{shown}"] * 2]
