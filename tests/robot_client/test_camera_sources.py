"""Kinds of cameras: which one a text means, how each is set, and one that goes away and comes back."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_client import cli
from robot_client.cameras import crop, sources
from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.capturing import CapturingCamera
from robot_client.cameras.opencv import OpenCvCamera, _apply
from robot_client.cameras.realsense import RealSenseCamera
from robot_client.cameras.settings import CameraSettings, load_camera_settings
from robot_client.cameras.simulated import SimulatedCamera
from robot_client.cameras.testcard import TestCard
from robot_client.cameras.zed import ZedCamera
from robot_client.errors import CameraError, StaleFrameError

SETTINGS = CameraSettings()


def wait_until(is_so: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("testcard", TestCard),
        ("tcp://127.0.0.1:5560", SimulatedCamera),
        ("device:0", OpenCvCamera),
        ("film.mp4", OpenCvCamera),
        ("rtsp://host/stream", OpenCvCamera),
        ("gst:videotestsrc ! appsink", OpenCvCamera),
        ("realsense", RealSenseCamera),
        ("realsense:0123", RealSenseCamera),
        ("zed:27904255", ZedCamera),
    ],
)
def test_a_text_names_a_kind_of_camera(text: str, kind: type) -> None:
    assert type(sources.open_source(text, SETTINGS)) is kind


def test_a_device_without_a_number_is_refused() -> None:
    with pytest.raises(CameraError, match="device:0"):
        sources.open_source("device:front", SETTINGS)


@pytest.mark.parametrize("text", ["realsense", "zed", "rtsp://127.0.0.1:9/none", "gst:nonsense"])
def test_a_camera_that_cannot_be_opened_says_what_to_do(text: str) -> None:
    remedy = r"pip install|apt install|robot-client cameras|SDK|ffplay|gst-launch"
    with pytest.raises(CameraError, match=remedy):
        sources.open_source(text, SETTINGS).connect()


class Flaky(CapturingCamera):
    """Delivers three frames, then is lost until it is opened the third time."""

    def __init__(self) -> None:
        super().__init__("flaky")
        self.opened = 0
        self.left = 0

    def _open(self) -> None:
        self.opened += 1
        if self.opened == 2:
            raise CameraError("unplugged")
        self.left = 3 if self.opened == 1 else 10**6

    def _read(self) -> CapturedFrame | None:
        time.sleep(0.01)
        self.left -= 1
        if self.left < 0:
            return None
        return CapturedFrame(np.full((2, 2, 3), self.opened, np.uint8), time.monotonic())

    def _close(self) -> None:
        pass


def test_a_camera_that_is_lost_grows_stale_and_is_opened_again() -> None:
    camera = Flaky()
    camera.connect()
    seen_stale = False
    deadline = time.monotonic() + 20
    while camera.opened < 3:
        assert time.monotonic() < deadline
        try:
            camera.newest(0.05)
        except StaleFrameError:
            seen_stale = True
        time.sleep(0.01)
    wait_until(lambda: camera._slot.newest(10.0).frame[0, 0, 0] == 3)
    camera.disconnect()
    assert seen_stale
    assert camera._thread is None


class Dark(Flaky):
    def _read(self) -> CapturedFrame | None:
        time.sleep(0.01)
        return None

    def _open(self) -> None:
        pass


def test_a_camera_without_a_first_frame_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot_client.cameras.capturing._FIRST_FRAME_TIMEOUT_S", 0.2)
    with pytest.raises(CameraError, match="no frame"):
        Dark().connect()


def test_fixed_exposure_and_white_balance_switch_the_automatic_off() -> None:
    done: dict[int, float] = {}
    device = SimpleNamespace(set=lambda key, value: done.update({key: value}) or True)
    _apply(device, CameraSettings(width=1280, exposure=120, white_balance_k=4600), "camera")
    assert done[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert done[cv2.CAP_PROP_AUTO_EXPOSURE] == 1.0
    assert done[cv2.CAP_PROP_EXPOSURE] == 120
    assert done[cv2.CAP_PROP_AUTO_WB] == 0.0
    assert done[cv2.CAP_PROP_WB_TEMPERATURE] == 4600
    assert cv2.CAP_PROP_GAIN not in done


def test_what_a_driver_does_not_take_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    _apply(SimpleNamespace(set=lambda key, value: False), CameraSettings(fps=60), "camera 3")
    assert any("camera 3 does not take fps = 60" in record.message for record in caplog.records)


@pytest.mark.parametrize("text", ["width: 4\n", "shutter: 3\n", "- 1\n", "a: [\n"])
def test_camera_settings_that_make_no_sense_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    with pytest.raises(CameraError, match=r"camera\.yaml"):
        load_camera_settings(path)


def test_only_the_first_node_of_a_usb_camera_is_listed(tmp_path: Path) -> None:
    for number, index in ((0, 0), (1, 1), (2, 0), (10, 0)):
        node = tmp_path / f"video{number}"
        node.mkdir()
        (node / "index").write_text(f"{index}\n")
        (node / "name").write_text(f"cam {number}\n")
    found = sources._usb(tmp_path)
    assert [(entry.source, entry.name) for entry in found] == [
        ("device:0", "cam 0"),
        ("device:2", "cam 2"),
        ("device:10", "cam 10"),
    ]


class FakeRealSense:
    """As much of pyrealsense2 as the driver uses."""

    format = SimpleNamespace(rgb8="rgb8")
    stream = SimpleNamespace(color="color")
    camera_info = SimpleNamespace(serial_number="serial", name="name")
    option = SimpleNamespace(
        enable_auto_exposure="auto exposure",
        exposure="exposure",
        gain="gain",
        enable_auto_white_balance="auto white balance",
        white_balance="white balance",
    )

    def __init__(self) -> None:
        self.options: dict[str, float] = {}
        self.asked: list[Any] = []
        self.is_running = False

    def config(self) -> Any:
        return SimpleNamespace(
            enable_device=self.asked.append,
            enable_stream=lambda *values: self.asked.append(values),
        )

    def pipeline(self) -> "FakeRealSense":
        return self

    def start(self, config: Any) -> Any:
        self.is_running = True
        sensor = SimpleNamespace(set_option=self.options.__setitem__)
        device = SimpleNamespace(first_color_sensor=lambda: sensor)
        return SimpleNamespace(get_device=lambda: device)

    def stop(self) -> None:
        self.is_running = False

    def wait_for_frames(self, timeout_ms: int) -> Any:
        time.sleep(0.005)
        image = np.full((4, 6, 3), 77, np.uint8)
        return SimpleNamespace(get_color_frame=lambda: SimpleNamespace(get_data=lambda: image))


def test_a_realsense_without_the_systems_usb_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "raise ImportError('libusb-1.0.so.0: cannot open shared object file')"
    (tmp_path / "pyrealsense2.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CameraError, match=r"libusb.*apt install libusb-1.0-0"):
        RealSenseCamera("", CameraSettings()).connect()


def test_a_list_without_the_systems_usb_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = "raise ImportError('libusb-1.0.so.0: cannot open shared object file')"
    (tmp_path / "pyrealsense2.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["cameras"]) == 0
    assert re.search(r"no RealSense.*libusb.*apt install libusb-1.0-0", caplog.text)


def test_a_list_says_nothing_of_a_library_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    assert cli.main(["cameras"]) == 0
    assert caplog.text == ""


def test_a_realsense_is_set_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRealSense()
    monkeypatch.setitem(sys.modules, "pyrealsense2", fake)  # type: ignore[arg-type]
    camera = RealSenseCamera("0123", CameraSettings(width=848, height=480, exposure=80, fps=60))
    camera.connect()
    assert camera.newest(1.0).frame[0, 0, 0] == 77
    camera.disconnect()
    assert fake.asked == ["0123", ("color", 848, 480, "rgb8", 60)]
    assert fake.options["auto exposure"] == 0.0
    assert fake.options["exposure"] == 80
    assert fake.options["auto white balance"] == 1.0
    assert not fake.is_running


class FakeZed:
    """As much of pyzed.sl as the driver uses."""

    DEPTH_MODE = SimpleNamespace(NONE=0)
    RESOLUTION = SimpleNamespace(HD1080="1080", HD720="720", VGA="vga")
    ERROR_CODE = SimpleNamespace(SUCCESS="ok")
    VIDEO_SETTINGS = SimpleNamespace(EXPOSURE="e", GAIN="g", WHITEBALANCE_TEMPERATURE="w")
    VIEW = SimpleNamespace(LEFT="left")

    def __init__(self) -> None:
        self.opened: Any = None
        self.settings: dict[str, int] = {}

    def InitParameters(self) -> Any:
        return SimpleNamespace(set_from_serial_number=lambda serial: None)

    def Camera(self) -> "FakeZed":
        return self

    def Mat(self) -> Any:
        bgra = np.zeros((4, 6, 4), np.uint8)
        bgra[..., 2], bgra[..., 0] = 200, 10
        return SimpleNamespace(get_data=lambda: bgra)

    def open(self, parameters: Any) -> str:
        self.opened = parameters
        return "ok"

    def set_camera_settings(self, name: str, value: int) -> None:
        self.settings[name] = value

    def grab(self) -> str:
        time.sleep(0.005)
        return "ok"

    def retrieve_image(self, image: Any, view: str) -> None:
        assert view == "left"

    def close(self) -> None:
        self.opened = None


def test_a_zed_s_left_eye_comes_out_in_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeZed()
    monkeypatch.setitem(sys.modules, "pyzed", SimpleNamespace(sl=fake))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pyzed.sl", fake)  # type: ignore[arg-type]
    camera = ZedCamera("42", CameraSettings(height=720, exposure=30, white_balance_k=4600))
    camera.connect()
    np.testing.assert_array_equal(camera.newest(1.0).frame[0, 0], [200, 0, 10])
    assert fake.opened.camera_resolution == "720"
    assert fake.settings == {"e": 30, "w": 4600}
    camera.disconnect()
    assert fake.opened is None


@given(
    height=st.integers(16, 200),
    width=st.integers(16, 200),
    geometry=st.sampled_from(["centre_square", "squash_1_35"]),
)
def test_the_preview_crops_as_the_model_does(height: int, width: int, geometry: Any) -> None:
    torch = pytest.importorskip("torch")
    preprocess = pytest.importorskip("models.preprocess")
    rng = np.random.default_rng(height * 1000 + width)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    narrowest, widest = crop._KEPT[geometry]
    theirs = preprocess.crop_aspect_ratio(torch.from_numpy(frame)[None], narrowest, widest)[0]
    top, left, rows, columns = crop.crop_box(height, width, geometry)
    np.testing.assert_array_equal(frame[top : top + rows, left : left + columns], theirs.numpy())


def test_cameras_and_crop_preview_write_pictures(tmp_path: Path, capsys: Any) -> None:
    picture, view = tmp_path / "camera.png", tmp_path / "crop.png"
    arguments = ["--camera", "testcard", "--output"]
    assert cli.main(["cameras", *arguments, str(picture)]) == cli.DONE
    assert cli.main(["crop-preview", *arguments, str(view), "--size", "64"]) == cli.DONE
    assert cv2.imread(str(picture)).shape == (256, 256, 3)
    assert cv2.imread(str(view)).shape == (256, 512, 3)
    assert cli.main(["cameras"]) == cli.DONE
    assert "device:0" in capsys.readouterr().out


def test_crop_preview_asks_a_guarded_server_for_its_geometry(stand_in: Any, tmp_path: Path) -> None:
    stand_in.card = {"frame_size": [48, 48], "frame_geometry": "squash_1_35"}
    view = tmp_path / "crop.png"
    arguments = ["--camera", "testcard", "--http", stand_in.url, "--token", "secret"]
    assert cli.main(["crop-preview", *arguments, "--output", str(view)]) == cli.DONE
    assert stand_in.asked_with == "Bearer secret"
    assert cv2.imread(str(view)).shape == (256, 512, 3)


def test_crop_preview_without_a_server_says_what_to_give(capsys: Any) -> None:
    arguments = ["crop-preview", "--camera", "testcard", "--http", "http://127.0.0.1:9"]
    assert cli.main(arguments) == cli.FAILED
    assert "--size" in capsys.readouterr().err
