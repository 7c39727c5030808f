"""Programs that a demo starts: told apart, waited for, and always ended."""

import os
import time
from pathlib import Path

import pytest

from robot_client import processes
from robot_client.errors import RunError
from robot_client.processes import Child


def child(tmp_path: Path, program: str) -> Child:
    return Child("the program", ["-u", "-c", program], tmp_path / "log", {"GREETING": "hello"})


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_program_is_waited_for_and_ended_by_its_own_id(tmp_path: Path) -> None:
    program = "import os, time; print(os.environ['GREETING']); time.sleep(60)"
    with child(tmp_path, program) as running:
        running.wait_until(lambda: "hello" in running.output(), 10.0)
        assert running._process is not None
        pid = running._process.pid
        assert is_alive(pid)
    assert not is_alive(pid)


def test_a_program_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = "raise SystemExit('the port is taken')"
    with (
        child(tmp_path, program) as running,
        pytest.raises(RunError, match=r"status 1.*\n.*the port is taken"),
    ):
        running.wait_until(lambda: False, 10.0)


def test_a_program_that_is_not_installed_is_told_with_what_to_install(tmp_path: Path) -> None:
    absent = Child("the program", ["-m", "not_installed_here"], tmp_path / "log", {})
    with (
        absent,
        pytest.raises(RunError, match=r"No module named not_installed_here\n.*pip install"),
    ):
        absent.wait_until(lambda: False, 10.0)


def test_a_program_that_never_gets_ready_is_told_and_ended(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="not ready after 0 s"),
        child(tmp_path, "import time; time.sleep(60)") as running,
    ):
        running.wait_until(lambda: False, 0.2)
    assert running._process is not None
    assert running._process.poll() is not None


def test_a_program_deaf_to_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_END_TIMEOUT_S", 0.2)
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf'); time.sleep(60)"
    )
    with child(tmp_path, program) as running:
        running.wait_until(lambda: "deaf" in running.output(), 10.0)
        started = time.monotonic()
    assert time.monotonic() - started < 20.0
    assert running._process is not None
    assert running._process.poll() is not None
