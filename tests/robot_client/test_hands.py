"""The gripper drivers: a Robotiq over a real (pseudo) serial line, and Desk's helper."""

import os
import pty
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_client import cli
from robot_client.arms import desk
from robot_client.arms.hand import Intent
from robot_client.arms.robotiq import RobotiqThread, checksum
from robot_client.errors import ArmError


def wait_until(is_so: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class FakeRobotiq:
    """A gripper at the other end of a serial line: answers Modbus, moves its fingers in time."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(self.master)
        self.port = Path(os.ttyname(slave))
        self._slave = slave
        self.is_active = False
        self.told: list[int] = []
        self.position, self.target, self.blocked_at = 0, 0, 255
        self.step = 40
        self.garbled = 0
        self.is_mute = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        os.close(self._slave)
        self._thread.join(5)
        os.close(self.master)

    def _serve(self) -> None:
        while not self._ending.is_set():
            try:
                request = os.read(self.master, 64)
            except OSError:
                return
            if self.is_mute or len(request) < 8 or checksum(request[:-2]) != request[-2:]:
                continue
            reply = self._write(request) if request[1] == 16 else self._read()
            reply += checksum(reply)
            if self.garbled:
                self.garbled -= 1
                reply = bytes([reply[0] ^ 0xFF]) + reply[1:]
            os.write(self.master, reply)

    def _write(self, request: bytes) -> bytes:
        action, _, _, position, _, _ = request[7:13]
        self.told.append(action)
        self.is_active = bool(action & 1)
        self.target = position if action & 8 else self.position
        return request[:6]

    def _read(self) -> bytes:
        step = self.step if self.target > self.position else -self.step
        if abs(self.target - self.position) <= self.step:
            self.position = self.target
        else:
            self.position += step
        held = self.position > self.blocked_at and step > 0
        self.position = min(self.position, self.blocked_at)
        state = 2 if held else (3 if self.position == self.target else 0)
        flags = (state << 6) | (0x3 << 4 if self.is_active else 0) | 0x08 | int(self.is_active)
        return struct.pack(">BBB6B", 9, 3, 6, flags, 0, 0, self.target, self.position, 0)


@pytest.fixture
def fake() -> Iterator[FakeRobotiq]:
    gripper = FakeRobotiq()
    yield gripper
    gripper.close()


def test_it_is_activated_by_its_first_command_closes_and_opens(
    fake: FakeRobotiq, caplog: pytest.LogCaptureFixture
) -> None:
    hand = RobotiqThread(fake.port)
    hand.start()
    time.sleep(0.2)
    assert hand.closedness() == 0.0
    assert fake.told == []  # connecting moves nothing
    assert "not active" in caplog.text
    hand.want(Intent.GRASP)
    assert hand.is_busy()
    wait_until(lambda: fake.told == [1, 9])
    wait_until(lambda: not hand.is_busy())
    assert hand.closedness() == 1.0
    assert not hand.is_holding()
    hand.want(Intent.OPEN)
    wait_until(lambda: not hand.is_busy())
    assert hand.closedness() == 0.0
    hand.end()


def test_homing_activates_it_once(fake: FakeRobotiq) -> None:
    for _ in range(2):
        assert cli.main(["home-gripper", "--robotiq", str(fake.port)]) == cli.DONE
    assert fake.told == [1]


def test_fingers_under_way_stand_when_they_are_halted(fake: FakeRobotiq) -> None:
    fake.step = 5
    hand = RobotiqThread(fake.port)
    hand.start()
    hand.want(Intent.GRASP)
    wait_until(lambda: hand.closedness() > 0.1)
    hand.halt()
    wait_until(lambda: not hand.is_busy())
    assert hand.closedness() < 0.9
    assert fake.told == [1, 9, 1]
    hand.want(Intent.OPEN)
    wait_until(lambda: not hand.is_busy())
    assert hand.closedness() == 0.0
    hand.end()


def test_a_halt_leaves_an_inactive_gripper_as_it_is_and_drops_what_is_not_begun(
    fake: FakeRobotiq,
) -> None:
    hand = RobotiqThread(fake.port)
    hand.start()
    hand.want(Intent.GRASP)
    hand.halt()
    wait_until(lambda: not hand.is_busy())
    assert 9 not in fake.told
    hand.end()


def test_what_is_held_is_held_after_a_halt(fake: FakeRobotiq) -> None:
    fake.blocked_at = 120
    hand = RobotiqThread(fake.port)
    hand.start()
    hand.want(Intent.GRASP)
    wait_until(hand.is_holding)
    hand.halt()
    time.sleep(0.3)
    assert fake.told == [1, 9]
    hand.end()


def test_an_object_between_the_fingers_is_held(fake: FakeRobotiq) -> None:
    fake.blocked_at = 120
    hand = RobotiqThread(fake.port)
    hand.start()
    hand.want(Intent.GRASP)
    wait_until(hand.is_holding)
    wait_until(lambda: not hand.is_busy())
    assert hand.closedness() == pytest.approx(120 / 255)
    hand.end()


def test_a_garbled_reply_is_asked_for_again(fake: FakeRobotiq) -> None:
    fake.garbled = 2
    hand = RobotiqThread(fake.port)
    hand.start()
    assert hand.closedness() == 0.0
    hand.end()


def test_a_gripper_that_falls_silent_is_lost(fake: FakeRobotiq) -> None:
    hand = RobotiqThread(fake.port)
    hand.start()
    fake.is_mute = True

    def is_lost() -> bool:
        try:
            hand.closedness()
        except ArmError:
            return True
        return False

    wait_until(is_lost)
    assert not hand.is_busy()
    hand.end()


def test_a_port_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArmError, match="dialout"):
        RobotiqThread(tmp_path / "ttyUSB9").start()


def test_the_checksum_is_that_of_the_manual() -> None:
    # Robotiq 2F manual, section 4.7: the activation request, and the one that clears it.
    request = bytes.fromhex("0910 03E8 0003 06 0100 0000 0000".replace(" ", ""))
    assert checksum(request) == bytes.fromhex("72e1")
    clear = bytes.fromhex("091003E8000306000000000000")
    assert checksum(clear) == bytes.fromhex("7330")


@given(st.binary(min_size=1, max_size=32), st.integers(0, 255))
def test_any_single_changed_byte_changes_the_checksum(data: bytes, change: int) -> None:
    if change:
        spoilt = bytes([data[0] ^ change]) + data[1:]
        assert checksum(spoilt) != checksum(data)


class FakeDesk:
    """Notes what it is asked to do."""

    calls: list[str] = []  # noqa: RUF012 - shared on purpose, one test at a time

    def __init__(self, host: str, user: str, password: str) -> None:
        FakeDesk.calls = [f"login {user}"]

    def __enter__(self) -> "FakeDesk":
        return self

    def __exit__(self, *details: object) -> None:
        FakeDesk.calls.append("close")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda **options: FakeDesk.calls.append(name)


def patch(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    monkeypatch.setattr(desk, "franky", SimpleNamespace(Desk=kind, DeskError=RuntimeError))


def test_unlocking_takes_control_unlocks_activates_and_locks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patch(monkeypatch, FakeDesk)
    with desk.unlocked("host", "lab", "secret", is_locked_after=True):
        assert FakeDesk.calls == [
            *("login lab", "take_control", "set_mode_execution", "unlock_brakes", "enable_fci")
        ]
    assert FakeDesk.calls[-2:] == ["lock_brakes", "close"]
    with desk.unlocked("host", "lab", "secret", is_locked_after=False):
        pass
    assert "lock_brakes" not in FakeDesk.calls


def test_a_desk_that_refuses_is_an_arm_error_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(host: str, user: str, password: str) -> Any:
        raise RuntimeError("control is held by another user")

    patch(monkeypatch, refuse)
    with (
        pytest.raises(ArmError, match="another user") as error,
        desk.unlocked("host", "lab", "secret", is_locked_after=True),
    ):
        pass
    assert "secret" not in str(error.value)
