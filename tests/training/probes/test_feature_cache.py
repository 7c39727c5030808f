"""Tokens on disk are the tokens: the same bits, whole or not at all, and of nothing else."""

import pickle
from dataclasses import replace

import pytest
import torch

from training.distributed import World
from training.errors import CorruptLatentsError, DataError, LatentsMismatchError
from training.pretrain_config import AugmentationConfig
from training.probes.feature_cache import KEY_FILE, FeatureWriter
from training.probes.features import extract
from training.probes.samples import FilesConfig, VideoSamples, open_files
from training.probes.splits import Split, Unread, encoded, keep_features
from training.probes.views import ClipConfig

CLIPS = ClipConfig(frames=4, segments=2)


def samples_of(path, augmentation=None):
    videos = open_files("train", FilesConfig(kind="csv", path=str(path)), None)
    return VideoSamples(videos, CLIPS, 32, augmentation)


@pytest.fixture
def split(clips_folder):
    return Split(samples_of(clips_folder / "train.csv", AugmentationConfig()), seed=3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cached_tokens_are_those_that_the_encoder_makes(
    split, feature_encoder, tmp_path, precision
):
    encoder = replace(feature_encoder, precision=precision)
    kept = keep_features(split, encoder, tmp_path, 2, World())
    for entry in [(index, version) for index in range(8) for version in range(2)]:
        anew = encoded(split.read(entry), encoder)
        assert anew.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        assert torch.equal(kept.read(entry), anew)
    assert not torch.equal(kept.read((0, 0)), kept.read((0, 1)))  # versions differ


def test_a_cache_can_be_sent_to_a_loading_process(split, feature_encoder, tmp_path):
    kept = keep_features(split, feature_encoder, tmp_path, 1, World())
    sent = pickle.loads(pickle.dumps(kept))
    assert torch.equal(sent.read((5, 0)), kept.read((5, 0)))


def test_what_is_there_is_not_encoded_again(split, feature_encoder, tmp_path, monkeypatch):
    keep_features(split, feature_encoder, tmp_path, 1, World())
    monkeypatch.setattr(type(feature_encoder), "encode", lambda *_: pytest.fail("encoded again"))
    keep_features(split, feature_encoder, tmp_path, 1, World())


def test_an_interrupted_encoding_goes_on(split, feature_encoder, tmp_path, monkeypatch):
    whole = keep_features(split, feature_encoder, tmp_path / "whole", 1, World())
    made = []

    def stop_in_the_middle(self, entry, tokens):
        made.append(entry)
        if len(made) == 5:
            raise KeyboardInterrupt
        add(self, entry, tokens)
        if len(made) % 2 == 0:
            self.close()

    add = FeatureWriter.add
    monkeypatch.setattr(FeatureWriter, "add", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        keep_features(split, feature_encoder, tmp_path / "part", 1, World())
    kept = keep_features(split, feature_encoder, tmp_path / "part", 1, World())
    assert len(made) == 5 + 4  # four were published
    for index in range(8):
        assert torch.equal(kept.read((index, 0)), whole.read((index, 0)))


@pytest.mark.parametrize("change", ["encoder", "precision", "clips", "seed", "samples"])
def test_a_cache_of_something_else_is_refused(
    split, feature_encoder, tmp_path, clips_folder, change
):
    keep_features(split, feature_encoder, tmp_path, 1, World())
    encoder, other = feature_encoder, split
    if change == "encoder":
        with torch.no_grad():
            encoder.network.norm.weight[0] += 1
    elif change == "precision":
        encoder = replace(encoder, precision="bf16")
    elif change == "clips":
        videos = split.samples.videos
        other = Split(VideoSamples(videos, CLIPS.model_copy(update={"frame_step": 2}), 32), 3)
    elif change == "seed":
        other = replace(split, seed=4)
    else:
        other = Split(samples_of(clips_folder / "validation.csv", AugmentationConfig()), seed=3)
    with pytest.raises(LatentsMismatchError, match="made from something else"):
        keep_features(other, encoder, tmp_path, 1, World())


def test_damage_is_found_when_it_is_read(split, feature_encoder, tmp_path):
    keep_features(split, feature_encoder, tmp_path, 1, World())
    (shard,) = tmp_path.glob("shard-*")
    content = bytearray((shard / "tokens.bin").read_bytes())
    content[-1] ^= 1
    (shard / "tokens.bin").write_bytes(content)
    kept = keep_features(split, feature_encoder, tmp_path, 1, World())
    assert isinstance(kept.read((0, 0)), torch.Tensor)
    with pytest.raises(CorruptLatentsError, match="entry 7 is damaged"):
        kept.read((7, 0))
    (shard / "tokens.bin").write_bytes(content[:-1])
    with pytest.raises(CorruptLatentsError, match="should hold"):
        keep_features(split, feature_encoder, tmp_path, 1, World())


def test_a_full_shard_is_published_and_the_next_one_begun(
    split, feature_encoder, tmp_path, monkeypatch
):
    whole = keep_features(split, feature_encoder, tmp_path / "whole", 1, World())
    three = 3 * whole.read((0, 0)).nbytes
    monkeypatch.setattr(FeatureWriter.__init__, "__defaults__", (three,))
    kept = keep_features(split, feature_encoder, tmp_path / "parts", 1, World())
    sizes = [path.stat().st_size for path in sorted((tmp_path / "parts").rglob("tokens.bin"))]
    assert sizes == [three, three, three * 2 // 3]
    for index in range(8):
        assert torch.equal(kept.read((index, 0)), whole.read((index, 0)))


@pytest.mark.parametrize("text", ["", "{}", '{"entries": [[1]], "unreadable": [], "shape": [1]}'])
def test_a_list_of_entries_that_cannot_be_read_names_its_shard(
    split, feature_encoder, tmp_path, text
):
    keep_features(split, feature_encoder, tmp_path, 1, World())
    (shard,) = tmp_path.glob("shard-*")
    (shard / "entries.json").write_text(text)
    with pytest.raises(CorruptLatentsError, match=f"{shard.name} cannot be read"):
        keep_features(split, feature_encoder, tmp_path, 1, World())
    (tmp_path / KEY_FILE).write_text(text)
    with pytest.raises(CorruptLatentsError, match="remove the folder"):
        keep_features(split, feature_encoder, tmp_path, 1, World())


def test_a_shard_may_hold_nothing_but_what_cannot_be_read(make, feature_encoder, tmp_path):
    samples = samples_of(make.list(tmp_path, "train", 2, bad=(0, 1)))
    for _ in range(2):  # made, and opened again
        kept = keep_features(Split(samples, seed=0), feature_encoder, tmp_path / "c", 1, World())
        assert "train1.mp4" in kept.read((1, 0)).reason


def test_unreadable_samples_are_remembered_and_replaced_alike(make, feature_encoder, tmp_path):
    samples = samples_of(make.list(tmp_path, "train", 4, bad=(1,)), AugmentationConfig())
    split = Split(samples, seed=0)
    kept = keep_features(split, feature_encoder, tmp_path / "cache", 1, World())
    assert isinstance(kept.read((1, 0)), Unread)
    assert "train1.mp4" in kept.read((1, 0)).reason
    found = []
    for one in (split, kept):
        skipped = []
        index, content = one.read_or_replace((1, 0), 10, skipped)
        found.append((index, skipped))
        assert torch.equal(encoded(content, feature_encoder), kept.read((index, 0)))
    assert found[0] == found[1]
    with pytest.raises(DataError, match="1 samples in a row"):
        split.read_or_replace((1, 0), 0, [])


def test_features_in_memory_leave_out_what_cannot_be_read(make, feature_encoder, tmp_path):
    path = make.list(tmp_path, "train", 4, bad=(2,))
    videos = open_files("train", FilesConfig(kind="csv", path=str(path)), None)
    features = extract(feature_encoder, videos, CLIPS, quiet=True)
    assert features.tokens.shape == (3, 1, 2 * 2 * 16, 48)
    assert features.labels.tolist() == [0, 1, 1]
    assert "train2.mp4" in features.unreadable[0]


def test_levels_are_put_one_after_the_other(feature_encoder):
    clips = torch.randn(1, 2, 3, 4, 32, 32)
    last = feature_encoder.encode(clips)
    both = replace(feature_encoder, out_layers=(0, 1)).encode(clips)
    assert both.shape[1] == 2 * last.shape[1]
    first_segment = both[:, : both.shape[1] // 2]
    assert torch.equal(first_segment[:, 32:], last[:, :32])


def test_nothing_to_encode_names_the_first_reason(make, feature_encoder, tmp_path):
    path = make.list(tmp_path, "train", 2, bad=(0, 1))
    videos = open_files("train", FilesConfig(kind="csv", path=str(path)), None)
    with pytest.raises(DataError, match=r"none of 2 videos .*train0\.mp4"):
        extract(feature_encoder, videos, CLIPS, quiet=True)
