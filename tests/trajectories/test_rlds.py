"""RLDS: TFRecord files are read bit by bit as their format says, and damage is noticed."""

import contextlib
import io
import json
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectories.dataset import open_dataset
from trajectories.errors import BadEpisodeError, CorruptDataError
from trajectories.rlds.example import encode_example, parse_example
from trajectories.rlds.tfrecord import (
    crc32c,
    masked_crc32c,
    read_record,
    record_offsets,
    write_record,
)

POSE = "steps/observation/cartesian_position"
IMAGES = "steps/observation/exterior_image_1_left"


def bitwise_crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_the_checksum_is_crc_32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogue of CRCs
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


@given(st.binary(max_size=300), st.integers(1, 60))
def test_the_checksum_of_long_data_is_that_of_the_bitwise_definition(data, times):
    assert crc32c(data * times) == bitwise_crc32c(data * times)


def test_a_record_has_the_bytes_that_the_format_asks_for():
    file = io.BytesIO()
    write_record(file, b"abc")
    length = struct.pack("<Q", 3)
    assert file.getvalue() == b"".join(
        [
            length,
            struct.pack("<I", masked_crc32c(length)),
            b"abc",
            struct.pack("<I", masked_crc32c(b"abc")),
        ]
    )


def test_an_example_of_another_encoder_is_understood():
    # {"a": [1, 300, -1] (packed), "b": [1.5] (one field each), "c": ["xy", ""]}, by hand
    ints = b"\x0a\x0d" + b"\x01" + b"\xac\x02" + b"\xff" * 9 + b"\x01"
    entries = {
        b"a": b"\x1a" + bytes([len(ints)]) + ints,
        b"b": b"\x12\x05\x0d" + struct.pack("<f", 1.5),
        b"c": b"\x0a\x06\x0a\x02xy\x0a\x00",
    }
    pairs = b""
    for name, feature in entries.items():
        pair = b"\x0a\x01" + name + b"\x12" + bytes([len(feature)]) + feature
        pairs += b"\x0a" + bytes([len(pair)]) + pair
    features = parse_example(b"\x0a" + bytes([len(pairs)]) + pairs)
    assert features["a"].tolist() == [1, 300, -1]
    assert features["b"].tolist() == [1.5]
    assert features["c"] == [b"xy", b""]


numbers = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5)


@given(st.dictionaries(st.text(max_size=6), st.lists(st.binary(max_size=9), max_size=4)), numbers)
def test_examples_come_back(texts, integers):
    features = {**texts, "ints": np.array(integers, np.int64)}
    back = parse_example(encode_example(features))
    assert back.keys() == features.keys()
    assert list(back["ints"]) == integers
    for name in texts.keys() - {"ints"}:
        assert back[name] == texts[name]


@given(st.binary(max_size=80))
def test_bytes_that_are_no_example_are_an_error_and_never_a_crash(data):
    with contextlib.suppress(CorruptDataError):
        assert isinstance(parse_example(data), dict)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a" + b"\xff" * 10, "more than 64 bits"),
        (b"\x08\x01", "a number where a message"),
        (b"\x0a\x04\x08\x01\x08\x01", "a number where a message"),
        (b"\x0a\x06\x0a\x04\x12\x02\x22\x00", "feature kind 4"),
        (b"\x0a\x02\x0b\x00", "wire type 3"),
        (b"\x0a\x09\x00", "ends after its message"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(data, message):
    with pytest.raises(CorruptDataError, match=message):
        parse_example(data)


def test_integers_that_are_not_packed_are_understood():
    # {"a": [5, -1]}, one field each
    ints = b"\x08\x05\x08" + b"\xff" * 9 + b"\x01"
    pair = b"\x0a\x01a\x12" + bytes([len(ints) + 2]) + b"\x1a" + bytes([len(ints)]) + ints
    message = b"\x0a" + bytes([len(pair) + 2]) + b"\x0a" + bytes([len(pair)]) + pair
    assert parse_example(message)["a"].tolist() == [5, -1]


def jpeg(frame):
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = frame.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuvj420p")
    return b"".join(map(bytes, encoder.encode(picture) + encoder.encode(None)))


def example_of(episode, outcome):
    images = [jpeg(frame) for frame in episode.camera("left").frames()]
    floats = {
        "steps/observation/cartesian_position": episode.states[:, :6],
        "steps/observation/gripper_position": episode.states[:, 6],
        "steps/observation/joint_position": np.zeros((len(episode), 7)),
        "steps/action_dict/cartesian_position": episode.signals["action/cartesian_position"],
    }
    place = f"/home/droid/LAB/{outcome}/2024/x.h5"
    return encode_example(
        {
            **{name: values.astype(np.float32).reshape(-1) for name, values in floats.items()},
            "steps/observation/exterior_image_1_left": images,
            "steps/language_instruction": [b""] * len(episode),
            "steps/language_instruction_2": [b"stack the cups"] * len(episode),
            "steps/is_first": np.arange(len(episode)) == 0,
            "episode_metadata/file_path": [place.encode()],
        }
    )


@pytest.fixture
def rlds_folder(tmp_path, make_episode):
    folder = tmp_path / "droid_100" / "1.0.0"
    folder.mkdir(parents=True)
    for shard, seeds in enumerate(((0, 1), (2,))):
        with (folder / f"r2d2_faceblur-train.tfrecord-0000{shard}-of-00002").open("wb") as file:
            for seed in seeds:
                outcome = "success" if seed % 2 == 0 else "failure"
                write_record(file, example_of(make_episode(seed=seed), outcome))
    return folder


def test_episodes_are_read(rlds_folder, make_episode):
    data = open_dataset(rlds_folder)
    assert (data.format, len(data)) == ("rlds", 3)
    for seed, episode in enumerate(data):
        written = make_episode(seed=seed)
        np.testing.assert_allclose(episode.states, written.states, rtol=1e-6)
        assert (episode.clock, round(episode.fps)) == ("nominal", 15)
        assert (episode.task, episode.success) == ("stack the cups", seed % 2 == 0)
        np.testing.assert_allclose(
            episode.signals["action/cartesian_position"],
            written.signals["action/cartesian_position"],
            rtol=1e-6,
        )
        loss = episode.camera("left").read([7, 2]).astype(int) - written.camera("left").read([7, 2])
        assert np.abs(loss).mean() < 8


def test_stated_lengths_save_counting_and_a_lie_is_noticed(rlds_folder):
    info = {"splits": [{"name": "train", "shardLengths": ["2", "3"]}]}
    (rlds_folder / "dataset_info.json").write_text(json.dumps(info))
    data = open_dataset(rlds_folder)
    assert len(data) == 5
    assert data.open(2).task == "stack the cups"
    with pytest.raises(BadEpisodeError, match="missing record"):
        data.open(4)


def test_a_flipped_bit_is_named_with_its_record(rlds_folder):
    file = sorted(rlds_folder.iterdir())[0]
    content = bytearray(file.read_bytes())
    content[500] ^= 4
    file.write_bytes(content)
    data = open_dataset(rlds_folder)
    with pytest.raises(BadEpisodeError, match=r"00000-of-00002#0: .*checksum"):
        data.open(0)
    assert len(data.open(1)) == 12


@pytest.mark.parametrize("keep", [5, 100, -3])
def test_a_file_that_is_cut_short_is_named(rlds_folder, keep):
    file = sorted(rlds_folder.iterdir())[1]
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CorruptDataError, match="00001-of-00002 is cut short"):
        open_dataset(rlds_folder)


def test_a_damaged_length_is_noticed():
    file = io.BytesIO()
    write_record(file, b"abc")
    content = bytearray(file.getvalue())
    content[2] = 9
    with pytest.raises(CorruptDataError, match="header of record 0 of x is damaged"):
        record_offsets(io.BytesIO(content), len(content), "x")
    assert read_record(file, 12, 3, "x") == b"abc"


def test_an_episode_without_poses_says_what_it_has(rlds_folder):
    file = sorted(rlds_folder.iterdir())[1]
    with file.open("wb") as stream:
        write_record(stream, encode_example({"steps/reward": np.zeros(3, np.float32)}))
    with pytest.raises(BadEpisodeError, match="cartesian_position; there are steps/reward"):
        open_dataset(rlds_folder).open(2)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            {POSE: np.zeros(13, np.float32)},
            "13 numbers under .*cartesian_position are no rows of 6",
        ),
        ({IMAGES: [b"one"]}, "length mismatch: 1 images of view left, 12 rows"),
    ],
)
def test_a_record_whose_parts_differ_in_length_is_named(
    rlds_folder, make_episode, features, message
):
    file = sorted(rlds_folder.iterdir())[1]
    whole = parse_example(example_of(make_episode(), "success"))
    with file.open("wb") as stream:
        write_record(stream, encode_example(whole | features))
    with pytest.raises(BadEpisodeError, match=message):
        open_dataset(rlds_folder).open(2)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"splits": [{"shardLengths": ["x"]}]}'])
def test_a_description_that_states_no_lengths_is_named(rlds_folder, content):
    (rlds_folder / "dataset_info.json").write_text(content)
    with pytest.raises(CorruptDataError, match=r"dataset_info\.json does not state the lengths"):
        open_dataset(rlds_folder)


def test_a_record_that_ends_early_is_noticed():
    file = io.BytesIO()
    write_record(file, b"abc")
    with pytest.raises(CorruptDataError, match="x is cut short at byte 12"):
        read_record(io.BytesIO(file.getvalue()[:-1]), 12, 3, "x")
