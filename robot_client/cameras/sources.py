"""From the text of `--camera` to a camera, and which cameras there are."""

import logging
from dataclasses import dataclass
from pathlib import Path

from robot_client.cameras.camera import Camera
from robot_client.cameras.opencv import OpenCvCamera
from robot_client.cameras.realsense import USB_REMEDY, RealSenseCamera
from robot_client.cameras.settings import CameraSettings
from robot_client.cameras.simulated import SimulatedCamera
from robot_client.cameras.testcard import TestCard
from robot_client.cameras.zed import ZedCamera
from robot_client.errors import CameraError

logger = logging.getLogger(__name__)

SOURCES = (
    "device:0 (USB), a video file, rtsp://..., gst:PIPELINE, realsense[:SERIAL], zed[:SERIAL], "
    "tcp://HOST:PORT (simulator), or testcard"
)
_STREAMS = ("rtsp://", "rtsps://", "http://", "https://", "udp://", "gst:")


def open_source(source: str, settings: CameraSettings) -> Camera:
    """The camera that a text names, not yet connected.

    Raises:
        CameraError: No camera is meant by it.
    """
    kind, _, rest = source.partition(":")
    if source == "testcard":
        return TestCard()
    if source.startswith("tcp://"):
        return SimulatedCamera(source)
    if source.startswith(_STREAMS):
        return OpenCvCamera(source, settings)
    if kind == "device":
        if not rest.isdigit():
            text = f"--camera {source}: device: is followed by a number, e.g. device:0"
            raise CameraError(text)
        return OpenCvCamera(int(rest), settings)
    if kind == "realsense":
        return RealSenseCamera(rest, settings)
    if kind == "zed":
        return ZedCamera(rest, settings)
    return OpenCvCamera(Path(source), settings)


@dataclass(frozen=True)
class Found:
    """A camera of this machine: what `--camera` would be, and what it calls itself."""

    source: str
    name: str


def list_cameras() -> list[Found]:
    """The USB cameras that Linux knows, and RealSense devices where their library is installed."""
    return [*_usb(Path("/sys/class/video4linux")), *_realsense()]


def _usb(devices: Path) -> list[Found]:
    """One entry per device; of a device's several nodes only the first one gives pictures."""
    found = []
    for node in sorted(devices.glob("video*"), key=lambda path: int(path.name[5:])):
        index, name = node / "index", node / "name"
        if index.is_file() and index.read_text().strip() != "0":
            continue
        label = name.read_text().strip() if name.is_file() else "unknown"
        found.append(Found(f"device:{node.name[5:]}", label))
    return found


def _realsense() -> list[Found]:
    try:
        import pyrealsense2 as rs
    except ModuleNotFoundError:
        return []
    except ImportError as error:  # installed, and of no use as it is
        logger.warning(
            "no RealSense is listed: pyrealsense2 does not load (%s): %s", error, USB_REMEDY
        )
        return []
    return [
        Found(
            f"realsense:{device.get_info(rs.camera_info.serial_number)}",
            str(device.get_info(rs.camera_info.name)),
        )
        for device in rs.context().query_devices()
    ]
