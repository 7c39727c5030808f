"""Video files: the frame that was asked for, whatever the codec, the order or the damage."""

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trajectories.cameras import decode_image
from trajectories.errors import CorruptDataError, InvalidEpisodeError, LengthMismatchError
from trajectories.storage import locate, write_whole
from trajectories.video import VideoCamera
from trajectories.video_writer import Piece, VideoWriter, count_whole_frames, join

FRAMES = 30


def frames(count=FRAMES, size=(48, 64)):
    stack = np.zeros((count, *size, 3), np.uint8)
    for row in range(count):
        stack[row, :, 2 * (row % 30) : 2 * (row % 30) + 4] = 200
        stack[row, :8] = 8 * (row % 30)
    return stack


def encode(path, stack, codec="libx264", times=None, **options):
    """Encode as others do: with frames that refer forwards, any spacing, any container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width = stack.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for row, frame in enumerate(stack):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = row if times is None else times[row]
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


KINDS = {
    "forward references": ("a.mp4", "libx264", dict(bf="3", g="12")),
    "every frame a key frame": ("a.mp4", "libx264", dict(g="1")),
    "av1": ("a.mp4", "libsvtav1", dict(preset="10")),
    "matroska": ("a.mkv", "libx264", dict(bf="2", g="10")),
    "table in front": ("a.mp4", "libx264", dict(bf="2", g="10", movflags="faststart")),
}


@pytest.fixture(scope="module", params=KINDS)
def video(request, tmp_path_factory):
    name, codec, options = KINDS[request.param]
    path = encode(tmp_path_factory.mktemp("video") / name, frames(), codec, **options)
    return path, decoded(path)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.integers(0, FRAMES - 1), max_size=12))
def test_random_access_gives_what_decoding_in_order_gives(video, rows):
    path, expected = video
    camera = VideoCamera(locate(path), FRAMES)
    np.testing.assert_array_equal(camera.read(rows), expected[rows])
    np.testing.assert_array_equal(camera.read(rows), expected[rows])
    camera.close()


def test_frames_that_are_unevenly_spaced_are_found(tmp_path):
    times = np.cumsum(np.random.default_rng(0).integers(1, 9, FRAMES)).tolist()
    path = encode(tmp_path / "a.mp4", frames(), times=times, bf="2", g="8")
    camera = VideoCamera(locate(path), FRAMES)
    order = np.random.default_rng(1).permutation(FRAMES)
    np.testing.assert_array_equal(camera.read(order), decoded(path)[order])


def test_an_episode_within_a_file_begins_at_its_time(tmp_path):
    path = encode(tmp_path / "a.mp4", frames(), g="10")
    camera = VideoCamera(locate(path), rows=8, first_s=12 / 30)
    np.testing.assert_array_equal(camera.read(range(8)), decoded(path)[12:20])
    with pytest.raises(IndexError, match="8"):
        camera.read([8])


def test_reading_goes_on_after_closing(tmp_path):
    path = encode(tmp_path / "a.mp4", frames())
    camera = VideoCamera(locate(path), FRAMES)
    first = camera.read([3])
    camera.close()
    np.testing.assert_array_equal(camera.read([3]), first)


@pytest.mark.parametrize("rows", [FRAMES - 1, FRAMES + 1])
def test_a_file_of_another_length_is_refused_and_counted(tmp_path, rows):
    path = encode(tmp_path / "a.mp4", frames())
    with pytest.raises(LengthMismatchError, match=f"{FRAMES} frames .* {rows} rows") as caught:
        VideoCamera(locate(path), rows).read([0])
    assert caught.value.frames == FRAMES


@pytest.mark.parametrize("movflags", ["faststart", "empty_moov"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_file_that_is_cut_short_is_never_taken_for_whole(tmp_path, movflags, share):
    path = encode(tmp_path / "a.mp4", frames(), movflags=movflags)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CorruptDataError, match=r"a\.mp4"):
        VideoCamera(locate(path), FRAMES).read(range(FRAMES))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1), value=st.binary(min_size=1, max_size=40))
def test_a_damaged_file_gives_frames_or_an_error_of_ours(tmp_path, place, value):
    path = tmp_path / "a.mp4"
    if not path.exists():
        encode(path, frames(), g="10")
    content = bytearray(path.read_bytes())
    start = int(place * (len(content) - 1))
    content[start : start + len(value)] = value
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with contextlib.suppress(CorruptDataError):
        read = VideoCamera(locate(damaged), FRAMES).read(range(FRAMES))
        assert read.shape == (FRAMES, 48, 64, 3)


def test_a_file_whose_frames_change_their_size_is_named(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        for row, size in enumerate([(48, 64), (48, 64), (32, 32)]):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width = size
            encoder.pix_fmt, encoder.time_base = "yuvj420p", stream.time_base or Fraction(1, 30)
            frame = np.full((*size, 3), 90, np.uint8)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuvj420p")
            picture.pts = row
            for packet in encoder.encode(picture) + encoder.encode(None):
                packet.stream, packet.time_base = stream, Fraction(1, 30)
                container.mux(packet)
    camera = VideoCamera(locate(path), 3)
    assert camera.read([0, 1]).shape == (2, 48, 64, 3)
    with pytest.raises(CorruptDataError, match=r"frame 2 of .* is \(32, 32\); .*\(48, 64\)"):
        camera.read([2])


def test_damage_within_the_pictures_is_not_painted_over(tmp_path, shared_dir):
    source = sorted((shared_dir / "data" / "droid_raw").rglob("*.mp4"))[0]
    content, rows = source.read_bytes(), len(decoded(source))
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.mp4"
    for start in rng.integers(2000, len(content) - 4000, 8):
        damaged.write_bytes(content[:start] + rng.bytes(32) + content[start + 32 :])
        with pytest.raises(CorruptDataError, match=r"damaged\.mp4"):
            VideoCamera(locate(damaged), rows).read(range(rows))


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_what_the_writer_encodes_comes_back_within_codec_loss(tmp_path, codec):
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, (48, 64), 5, codec)
    for frame in frames():
        writer.write(frame)
    writer.close()
    camera = VideoCamera(locate(path), FRAMES)
    loss = np.abs(camera.read(range(FRAMES)).astype(int) - frames()).mean()
    assert loss < 6
    assert camera.nominal_fps == 5


def test_a_live_file_is_readable_while_it_is_written(tmp_path):
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, (48, 64), 5, is_live=True)
    for row, frame in enumerate(frames(10)):
        writer.write(frame)
        assert count_whole_frames(path) >= row  # the newest may still be on its way
    writer.close()
    assert count_whole_frames(path) == 10


def test_joined_files_hold_all_frames_in_order_unchanged(tmp_path):
    pieces, expected = [], []
    for number, count in enumerate((7, 1, 12)):
        path = tmp_path / f"{number}.mp4"
        writer = VideoWriter(path, (48, 64), 5)
        for frame in frames()[number : number + count]:
            writer.write(frame)
        writer.close()
        pieces.append(Piece(path, count))
        expected.append(decoded(path))
    join(pieces, tmp_path / "joined.mp4", 5)
    camera = VideoCamera(locate(tmp_path / "joined.mp4"), 20)
    np.testing.assert_array_equal(camera.read(range(20)), np.concatenate(expected))


def test_joining_refuses_a_file_with_too_few_frames(tmp_path):
    path = encode(tmp_path / "a.mp4", frames(5))
    with pytest.raises(CorruptDataError, match="5 whole frames of 6"):
        join([Piece(path, 6)], tmp_path / "joined.mp4", 5)
    assert not (tmp_path / "joined.mp4").exists()


def test_a_file_that_cannot_be_written_leaves_the_older_one_and_no_draft(tmp_path):
    path = tmp_path / "new" / "a.bin"
    write_whole(path, lambda draft: draft.write_bytes(b"old"))

    def fill_the_disk(draft):
        draft.write_bytes(b"ha")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_whole(path, fill_the_disk)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_frames_that_cannot_be_encoded_are_refused(tmp_path):
    with pytest.raises(InvalidEpisodeError, match="even"):
        VideoWriter(tmp_path / "a.mp4", (47, 64), 5)
    with pytest.raises(InvalidEpisodeError, match="codec 'mpeg1'"):
        VideoWriter(tmp_path / "a.mp4", (48, 64), 5, "mpeg1")
    with pytest.raises(InvalidEpisodeError, match="positive"):
        VideoWriter(tmp_path / "a.mp4", (48, 64), 0.0)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG and no more", b"\xff\xd8\xff\xe0"])
def test_bytes_that_are_no_image_are_named(data):
    with pytest.raises(CorruptDataError, match=f"{len(data)} bytes"):
        decode_image(data)
