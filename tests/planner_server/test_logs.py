"""What the service's log lines carry."""

import json
import logging
from collections.abc import Iterator

import pytest

from planner_server.logs import REQUEST_ID, configure_logging


@pytest.fixture
def package() -> Iterator[logging.Logger]:
    """The package's logger, which a test may set up anew."""
    package = logging.getLogger("planner_server")
    before = package.handlers, package.level, package.propagate
    yield package
    package.handlers, package.level, package.propagate = before


def test_every_line_names_the_request_that_it_was_written_for(
    package: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", "text")
    package.info("before")
    token = REQUEST_ID.set("abc-1")
    package.getChild("routes").warning("within")
    REQUEST_ID.reset(token)
    before, within = capsys.readouterr().err.splitlines()
    assert " [-]: before" in before
    assert " [abc-1]: within" in within


def test_lines_for_machines_are_json_with_the_traceback_inside(
    package: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("WARNING", "json")
    package.info("not worth a line")
    token = REQUEST_ID.set("abc-2")
    try:
        int("two\nlines")
    except ValueError:
        package.exception("that failed")
    REQUEST_ID.reset(token)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["request_id"]) == ("ERROR", "abc-2")
    assert told["message"] == "that failed"
    assert "\nValueError: invalid literal" in told["traceback"]
