"""Asking the person beside the arm: only a clear yes is one, and nobody there is a no."""

import os
import select
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

from robot_client.attendant import Console, Unattended


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """What is written here is typed at standard input."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as stdin, os.fdopen(writing, "wb", 0) as typed:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield typed


def never(time_s: float) -> None:
    raise AssertionError("there was something to read")


@pytest.mark.parametrize(
    ("typed", "is_consent"),
    [
        ("yes\n", True),
        ("YES \n", True),
        ("y\n", False),
        ("\n", False),
        ("no\n", False),
        ("", False),
    ],
)
def test_only_the_whole_word_is_consent(keyboard: BinaryIO, typed: str, is_consent: bool) -> None:
    keyboard.write(typed.encode())
    keyboard.close()
    assert Console().consents("Recover?", never) is is_consent


@pytest.mark.parametrize(
    ("typed", "answer"), [("\n", "m"), ("l\n", "l"), ("?\nE\n", "e"), ("", "e")]
)
def test_a_key_of_the_choice_is_waited_for(keyboard: BinaryIO, typed: str, answer: str) -> None:
    keyboard.write(typed.encode())
    keyboard.close()
    assert Console().choose("move?", "mle", never) == answer


def test_while_a_person_thinks_the_conversation_goes_on(keyboard: BinaryIO, capsys: Any) -> None:
    waited: list[float] = []

    def wait(time_s: float) -> None:
        waited.append(time_s)
        if len(waited) == 3:
            keyboard.write(b"yes\n")

    assert Console().consents("Go on?", wait)
    assert len(waited) == 3
    assert "Go on?" in capsys.readouterr().out


def test_what_was_typed_before_the_question_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = os.openpty()
    with os.fdopen(terminal, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(ours, b"yes\n")
        assert select.select([stdin], [], [], 20.0)[0]
        assert not Console().consents("Recover?", lambda _: (os.write(ours, b"no\n"), None)[1])
    os.close(ours)


def test_nobody_there_takes_the_safe_answer() -> None:
    assert Unattended().consents("Recover?", never) is False
    assert Unattended().choose("move?", "mle", never) == "e"
