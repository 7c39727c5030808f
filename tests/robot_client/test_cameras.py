"""Cameras: the newest frame, in the right colours, and never an old one."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from robot_client.cameras.camera import CapturedFrame, FrameSlot
from robot_client.cameras.opencv import OpenCvCamera
from robot_client.cameras.simulated import SimulatedCamera, decode_frame
from robot_client.cameras.testcard import TestCard
from robot_client.errors import CameraError, StaleFrameError


@pytest.fixture
def publisher() -> Iterator[tuple[Any, str]]:
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield socket, f"tcp://127.0.0.1:{port}"
    context.destroy(linger=0)


def message(value: int, t_monotonic_s: float, **changes: object) -> bytes:
    fields = {
        "version": 1,
        "sequence": value,
        "t_monotonic_s": t_monotonic_s,
        "t_wall_s": 0.0,
        "height": 2,
        "width": 3,
        "rgb": bytes([value] * 18),
    }
    packed: bytes = msgpack.packb({**fields, **changes})
    return packed


def publish_until_seen(socket: Any, camera: SimulatedCamera) -> None:
    """A subscription takes a moment to arrive."""
    import threading

    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            socket.send(message(1, time.monotonic()))
            done.wait(0.01)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        camera.connect()
    finally:
        done.set()
        thread.join()


def test_of_the_simulators_frames_the_newest_is_seen(publisher: tuple[Any, str]) -> None:
    socket, endpoint = publisher
    camera = SimulatedCamera(endpoint)
    publish_until_seen(socket, camera)
    now = time.monotonic()
    for value in range(2, 60):
        socket.send(message(value, now))
    deadline = time.monotonic() + 5
    while camera.newest(10.0).frame[0, 0, 0] != 59:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    newest = camera.newest(10.0)
    assert newest.frame.shape == (2, 3, 3)
    assert newest.t_capture == pytest.approx(now)
    camera.disconnect()


def test_a_simulator_that_stops_sending_leads_to_a_stale_frame(publisher: tuple[Any, str]) -> None:
    socket, endpoint = publisher
    camera = SimulatedCamera(endpoint)
    publish_until_seen(socket, camera)
    time.sleep(0.15)
    with pytest.raises(StaleFrameError, match="old"):
        camera.newest(0.1)
    camera.disconnect()


def test_a_stream_of_something_else_is_told(publisher: tuple[Any, str], monkeypatch: Any) -> None:
    _, endpoint = publisher
    monkeypatch.setattr("robot_client.cameras.simulated._FIRST_FRAME_TIMEOUT_S", 0.3)
    with pytest.raises(CameraError, match="simulation serve"):
        SimulatedCamera(endpoint).connect()


@given(st.binary(max_size=100))
def test_bytes_that_are_no_frame_raise_a_camera_error(payload: bytes) -> None:
    with pytest.raises(CameraError):
        decode_frame(payload)


def test_another_version_or_size_is_refused() -> None:
    with pytest.raises(CameraError, match="version 2"):
        decode_frame(message(1, 0.0, version=2))
    with pytest.raises(CameraError):
        decode_frame(message(1, 0.0, height=5))


def test_a_capture_time_of_another_clock_becomes_the_time_of_arrival() -> None:
    before = time.monotonic()
    assert decode_frame(message(1, before + 1e6)).t_capture >= before


def test_a_slot_without_a_frame_is_stale() -> None:
    slot = FrameSlot("camera")
    assert not slot.wait_for_first(0.01)
    with pytest.raises(StaleFrameError, match="no frame yet"):
        slot.newest(1.0)
    slot.put(CapturedFrame(np.zeros((1, 1, 3), np.uint8), time.monotonic() - 5))
    with pytest.raises(StaleFrameError, match=r"5\.0"):
        slot.newest(1.0)


@pytest.fixture
def red_film(tmp_path: Path) -> Path:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's order: blue first
    writer.release()
    return path


def test_a_film_plays_in_rgb_over_and_over(red_film: Path) -> None:
    camera = OpenCvCamera(red_film)
    camera.connect()
    first = camera.newest(1.0)
    assert first.frame.shape == (48, 64, 3)
    red, green, blue = first.frame.reshape(-1, 3).mean(axis=0)
    assert red > 200
    assert max(green, blue) < 60
    time.sleep(0.5)  # longer than the film
    assert camera.newest(0.3).t_capture > first.t_capture
    camera.disconnect()


def test_a_film_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="cannot be opened"):
        OpenCvCamera(tmp_path / "none.avi").connect()


def test_the_test_card_changes_and_is_never_stale() -> None:
    card = TestCard()
    first = card.newest(0.0)
    time.sleep(0.05)
    assert (card.newest(0.0).frame != first.frame).any()
