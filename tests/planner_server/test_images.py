"""Image files from the network."""

import contextlib
import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from planner_server.errors import PlannerError
from planner_server.images import check_frame, decode_image

COLOURS = np.zeros((32, 48, 3), np.uint8)
COLOURS[:, :24] = (200, 30, 10)  # RGB
FILES = {
    suffix: cv2.imencode(suffix, COLOURS[..., ::-1])[1].tobytes()
    for suffix in (".png", ".jpg", ".webp")
}


@pytest.mark.parametrize("suffix", FILES)
def test_colours_come_out_as_rgb(suffix: str) -> None:
    image = decode_image(FILES[suffix], "goal")
    assert image.shape == (32, 48, 3)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image[16, 8], (200, 30, 10), atol=12)


def test_lossless_lossy_and_grey_files_are_read() -> None:
    lossless = cv2.imencode(".webp", COLOURS, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    grey = cv2.imencode(".png", COLOURS[..., 0])[1].tobytes()
    alpha = cv2.imencode(".png", np.dstack([COLOURS, COLOURS[..., :1]]))[1].tobytes()
    deep = cv2.imencode(".png", COLOURS.astype(np.uint16) * 256)[1].tobytes()
    for data in (lossless, grey, alpha, deep):
        assert decode_image(data, "goal").shape == (32, 48, 3)


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused(suffix: str, keep: float) -> None:
    data = FILES[suffix]
    with pytest.raises(PlannerError, match="goal"):
        decode_image(data[: int(keep * len(data))], "goal")


@settings(max_examples=150, deadline=None)
@given(
    suffix=st.sampled_from(sorted(FILES)),
    edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    tail=st.binary(max_size=40),
)
def test_damaged_files_give_an_image_or_a_refusal(
    suffix: str, edits: list[tuple[int, int]], tail: bytes
) -> None:
    data = bytearray(FILES[suffix] + tail)
    for position, value in edits:
        data[position % len(data)] = value
    with contextlib.suppress(PlannerError):
        check_frame(decode_image(bytes(data), "goal"), "goal")


@given(
    head=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b""]), data=st.binary()
)
def test_bytes_that_are_no_image_are_refused(head: bytes, data: bytes) -> None:
    with pytest.raises(PlannerError):
        decode_image(head + data, "goal")


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((32, 32, 3), np.float32),
        np.zeros((15, 32, 3), np.uint8),
        np.zeros((32, 5000, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_frame_are_refused(frame: NDArray[Any]) -> None:
    with pytest.raises(PlannerError, match="frame"):
        check_frame(frame, "frame")


def two_halves() -> NDArray[np.uint8]:
    """Blue on the left, red on the right, 48 wide and 32 high."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :16], image[:, 16:] = (0, 0, 200), (200, 0, 0)
    return image


def pillow_file(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    images = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    images.fromarray(two_halves()).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "CMYK", {"quality": 95}),
        ("JPEG", "RGB", {"quality": 95, "progressive": True}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": True}),
    ],
)
def test_every_kind_of_colour_comes_out_as_rgb(
    kind: str, mode: str, options: dict[str, Any]
) -> None:
    frame = decode_image(pillow_file(kind, mode, **options), "goal")
    check_frame(frame, "goal")
    np.testing.assert_allclose(frame.astype(int), two_halves(), atol=60)


def test_sixteen_bits_and_grey_become_eight_bits_of_rgb() -> None:
    deep = two_halves()[..., ::-1].astype(np.uint16) * 257
    frame = decode_image(cv2.imencode(".png", deep)[1].tobytes(), "goal")
    np.testing.assert_array_equal(frame, two_halves())
    grey = decode_image(cv2.imencode(".png", two_halves()[..., 0])[1].tobytes(), "goal")
    assert grey.shape == (32, 48, 3)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_a_photograph_taken_upright_is_turned_upright() -> None:
    images = pytest.importorskip("PIL.Image")
    exif = images.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to see it upright
    frame = decode_image(pillow_file("JPEG", quality=95, exif=exif), "goal")
    upright = np.rot90(two_halves(), -1)
    assert frame.shape == upright.shape
    np.testing.assert_allclose(frame.astype(int)[4], upright[4], atol=60)
