"""The cache of latents: what is read is what was encoded, or an error that says where it is not."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.encoder import VisionTransformer
from models.weights import frozen
from training.episodes import CachedEpisodes, LiveEpisodes
from training.errors import (
    ConfigurationError,
    CorruptLatentsError,
    DataError,
    LatentsMismatchError,
)
from training.latent_cache import open_cache
from training.latents import check_encoder, describe, encode_recordings
from training.recordings import SIMULATED_VIEW, open_recordings
from training.windows import WindowSampler, WindowSettings
from trajectories.errors import CorruptDataError
from trajectories.shards import ShardWriter


@pytest.fixture
def recordings(shards):
    return open_recordings(shards, None)


@pytest.fixture
def cache(encoder, recordings, tmp_path):
    return encode_recordings(encoder, recordings, tmp_path / "latents")


def test_tokens_are_those_of_the_encoder_in_bfloat16(encoder, recordings, cache):
    rows = np.array([3, 0, 3])
    for episode in recordings.episodes:
        frames = torch.from_numpy(recordings.frames(episode, SIMULATED_VIEW, np.arange(6)))
        expected = encoder.encode(frames).bfloat16()[rows]
        torch.testing.assert_close(
            cache.tokens(episode, SIMULATED_VIEW, rows), expected, atol=0.05, rtol=0.02
        )


def test_states_travel_with_the_tokens(recordings, cache):
    for episode in recordings.episodes:
        np.testing.assert_array_equal(
            cache.states(episode, SIMULATED_VIEW), recordings.states(episode)
        )


def test_eight_bit_numbers_take_half_the_disk_and_are_a_few_percent_off(
    encoder, recordings, cache, tmp_path
):
    small = encode_recordings(encoder, recordings, tmp_path / "small", stored_type="float8_e4m3fn")
    sizes = [
        sum(p.stat().st_size for p in (tmp_path / n).rglob("tokens.bin"))
        for n in ("latents", "small")
    ]
    assert sizes[1] * 2 == sizes[0]
    rows = np.arange(6)
    exact = cache.tokens("000000", SIMULATED_VIEW, rows).float()
    error = small.tokens("000000", SIMULATED_VIEW, rows).float() - exact
    assert 0 < float(error.abs().mean() / exact.abs().mean()) < 0.04


def test_a_flipped_bit_is_found_and_its_frame_named(cache, tmp_path):
    path = tmp_path / "latents" / "shard-000-00000" / "tokens.bin"
    content = bytearray(path.read_bytes())
    frame = cache.key.frame_bytes
    content[7 * frame + 11] ^= 1  # the second episode's second frame
    path.write_bytes(content)
    damaged = open_cache(tmp_path / "latents")
    damaged.tokens("000000", SIMULATED_VIEW, np.arange(6))
    damaged.tokens("000001", SIMULATED_VIEW, np.array([0]))
    with pytest.raises(CorruptLatentsError, match="episode 000001, view camera, row 1"):
        damaged.tokens("000001", SIMULATED_VIEW, np.array([1]))
    with pytest.raises(CorruptLatentsError, match="row 1"):
        damaged.verify()


def test_a_truncated_shard_is_refused_when_it_is_opened(cache, tmp_path):
    path = tmp_path / "latents" / "shard-000-00000" / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptLatentsError, match="bytes"):
        open_cache(tmp_path / "latents")


@pytest.mark.parametrize("name", ["tokens.bin", "checks.npy", "states.npy", "blocks.json"])
def test_a_file_that_a_power_cut_left_empty_is_named(cache, tmp_path, name):
    (tmp_path / "latents" / "shard-000-00000" / name).write_bytes(b"")
    with pytest.raises(CorruptLatentsError, match="shard-000-00000"):
        open_cache(tmp_path / "latents")


def test_a_view_that_cannot_be_read_is_left_out_and_the_others_are_kept(
    encoder, recordings, tmp_path, monkeypatch
):
    read = recordings.frames

    def read_all_but_one(episode, view, rows):
        if episode == "000001":
            raise CorruptDataError("scratched")
        return read(episode, view, rows)

    monkeypatch.setattr(recordings, "frames", read_all_but_one)
    good = [(name, SIMULATED_VIEW) for name in recordings.episodes if name != "000001"]
    with pytest.raises(DataError, match=r"1 of \d+ views .*max_bad allows 0[^!]*000001.*scratched"):
        encode_recordings(encoder, recordings, tmp_path / "latents")
    assert sorted(open_cache(tmp_path / "latents").contents) == good
    cache = encode_recordings(encoder, recordings, tmp_path / "latents", max_bad=1)
    assert sorted(cache.contents) == good
    monkeypatch.undo()
    whole = encode_recordings(encoder, recordings, tmp_path / "latents")
    assert len(whole.contents) == len(recordings.episodes)


def test_processes_may_begin_the_same_cache_at_the_same_time(
    encoder, recordings, tmp_path, monkeypatch
):
    replace_path = Path.replace

    def let_another_be_faster(path, target):
        if not Path(target).exists() and Path(target).name == "cache.json":
            monkeypatch.setattr(Path, "replace", replace_path)
            encode_recordings(encoder, recordings, tmp_path / "latents", part=(0, 2))
        return replace_path(path, target)

    monkeypatch.setattr(Path, "replace", let_another_be_faster)
    cache = encode_recordings(encoder, recordings, tmp_path / "latents", part=(1, 2))
    assert len(cache.contents) == len(recordings.episodes)


def test_shards_of_different_periods_are_refused(shards, tmp_path):
    writer = ShardWriter(tmp_path / "shard-00000", 2, (8, 8), {"control_period_s": 1.0})
    other = ShardWriter(tmp_path / "shard-00001", 2, (8, 8), {"control_period_s": 0.5})
    for each in (writer, other):
        each.append(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 7)), "reach")
        each.close()
    with pytest.raises(ConfigurationError, match=r"0\.5, 1\.0"):
        open_recordings(tmp_path, 1.0)


def test_a_folder_without_a_cache_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(CorruptLatentsError, match="latents encode"):
        open_cache(tmp_path)


def test_a_cache_of_another_encoder_is_refused(encoder, cache, tmp_path):
    torch.manual_seed(1)
    other = replace(encoder, network=frozen(VisionTransformer(encoder.network.config)))
    check_encoder(tmp_path / "latents", cache.key, encoder)
    with pytest.raises(LatentsMismatchError, match="encoder_sha256"):
        check_encoder(tmp_path / "latents", cache.key, other)


def test_a_cache_of_another_geometry_is_refused(encoder, recordings, cache, tmp_path):
    squashed = replace(encoder, geometry="squash_1_35")
    with pytest.raises(LatentsMismatchError, match="frame_geometry is centre_square"):
        encode_recordings(squashed, recordings, tmp_path / "latents")


def test_a_cache_of_other_recordings_is_refused(encoder, recordings, cache, tmp_path):
    recordings._states = recordings._states + 1e-9
    with pytest.raises(LatentsMismatchError, match="data_sha256"):
        encode_recordings(encoder, recordings, tmp_path / "latents")


def test_an_interrupted_encoding_continues_and_keeps_what_is_there(
    encoder, recordings, cache, tmp_path
):
    half = tmp_path / "half"
    one_episode = 6 * cache.key.frame_bytes
    encode_recordings(encoder, recordings, half, shard_bytes=one_episode)
    shards = sorted(half.glob("shard-*"))
    assert len(shards) == len(recordings.episodes)
    kept = {path: (path / "tokens.bin").stat().st_ino for path in shards[:3]}
    for number, path in enumerate(shards[3:]):  # the process died while it wrote the fourth
        path.rename(path.with_suffix(".partial") if number == 0 else tmp_path / path.name)
    resumed = encode_recordings(encoder, recordings, half, shard_bytes=one_episode)
    assert sorted(resumed.contents) == sorted(cache.contents)
    assert kept == {path: (path / "tokens.bin").stat().st_ino for path in kept}
    assert not list(half.glob("*.partial"))
    resumed.verify()


def test_several_processes_make_the_cache_of_one(encoder, recordings, cache, tmp_path):
    for part in range(3):
        shared = encode_recordings(encoder, recordings, tmp_path / "shared", part=(part, 3))
    assert shared.frames == cache.frames
    rows = np.arange(6)
    for episode, view in cache.contents:
        torch.testing.assert_close(
            shared.tokens(episode, view, rows), cache.tokens(episode, view, rows)
        )


def test_a_loading_process_opens_the_files_again(cache):
    packed = pickle.dumps(cache)
    assert len(packed) < cache.key.frame_bytes
    rows = np.array([2])
    torch.testing.assert_close(
        pickle.loads(packed).tokens("000002", SIMULATED_VIEW, rows),
        cache.tokens("000002", SIMULATED_VIEW, rows),
    )


def test_windows_from_the_cache_are_those_from_the_frames(encoder, recordings, cache):
    settings = WindowSettings(frames=3)
    live, cached = (
        WindowSampler(data, recordings.episodes, settings).sample(
            5, torch.Generator().manual_seed(3)
        )
        for data in (LiveEpisodes(recordings), CachedEpisodes(cache))
    )
    assert live.names == cached.names
    torch.testing.assert_close(live.actions, cached.actions)
    torch.testing.assert_close(
        live.encoded(encoder).tokens, cached.tokens.float(), atol=0.05, rtol=0.02
    )


def test_nothing_to_encode_is_an_error(encoder, recordings, tmp_path):
    recordings._episodes = []
    with pytest.raises(DataError, match="no episode"):
        encode_recordings(encoder, recordings, tmp_path / "none")


def test_the_key_says_everything_that_tokens_depend_on(encoder, recordings):
    key = describe(encoder, recordings, "bfloat16")
    assert key.frame_shape == (16, 48)
    assert key.frame_bytes == 16 * 48 * 2
    assert key == describe(encoder, open_recordings_again(recordings), "bfloat16")


def open_recordings_again(recordings):
    return type(recordings)(recordings._shards)


def test_a_cache_that_was_only_begun_names_the_command_that_makes_one(cache, tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    (folder / "cache.json").write_text(cache.key.model_dump_json())
    with pytest.raises(CorruptLatentsError, match=r"no complete shard.*latents encode"):
        open_cache(folder)
    (folder / "cache.json").write_text("{}")
    with pytest.raises(
        CorruptLatentsError, match=r"cache\.json cannot be read(.|\n)*latents encode"
    ):
        open_cache(folder)


def test_the_simulators_data_are_read_at_their_own_period_only(shards):
    assert open_recordings(shards, 1.0).row_period_s == 1.0
    with pytest.raises(ConfigurationError, match=r"row_period_s is 0\.5, the rows .* 1\.0 s apart"):
        open_recordings(shards, 0.5)
