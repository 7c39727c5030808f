"""A tiny encoder, clips on disk and recipes that the tests of probes share."""

import av
import numpy as np
import pytest
import torch
import yaml

from models.config import EncoderConfig, MaskPredictorConfig
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.model_folder import save_encoder
from models.weights import frozen
from training.probes.features import FeatureEncoder
from trajectories.replay.contact_sheet import thumbnail

ENCODER = dict(img_size=[32, 32], patch_size=8, num_frames=4, embed_dim=48, depth=2, num_heads=2)
PREDICTOR = dict(
    grid_size=[4, 4], embed_dim=48, predictor_embed_dim=24, depth=1, num_heads=2, num_mask_tokens=2
)
RATE = 8  # frames per second


def write_clip(path, shade, frames=12, height=32, width=48):
    """A video of a bar that wanders over a field of one shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for time in range(frames):
            picture = np.full((height, width, 3), shade, dtype=np.uint8)
            start = 3 * time % (width - 8)
            picture[:, start : start + 8] = 220
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def write_image(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(thumbnail(0, np.full((40, 48, 3), shade, dtype=np.uint8)).jpeg)
    return path


def write_list(folder, name, count, bad=()):
    """Clips of two classes, dark and bright, and their list."""
    lines = []
    for number in range(count):
        label = number % 2
        clip = folder / f"{name}{number}.mp4"
        if number in bad:
            clip.write_bytes(b"no video")
        else:
            write_clip(clip, 20 + 130 * label + 5 * number)
        lines.append(f"{clip.name} {label}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.csv"


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """An encoder with its predictor, as a pretraining leaves them."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    drawn = MaskPredictor(MaskPredictorConfig(**PREDICTOR))
    for placeholder in drawn.mask_tokens:  # they start as zeros, which attend to all alike
        torch.nn.init.normal_(placeholder)
    predictor = drawn.state_dict()
    network = VisionTransformer(EncoderConfig(**ENCODER))
    save_encoder(network, folder, {"recipe": {"predictor": PREDICTOR}}, mask_predictor=predictor)
    return folder


@pytest.fixture
def feature_encoder():
    torch.manual_seed(0)
    return FeatureEncoder(frozen(VisionTransformer(EncoderConfig(**ENCODER))))


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory):
    """Eight clips to learn from, four to be judged by, and their lists."""
    folder = tmp_path_factory.mktemp("clips")
    write_list(folder, "train", 8)
    write_list(folder, "validation", 4)
    return folder


@pytest.fixture
def probe_values(encoder_folder, clips_folder):
    """Values of a tiny recipe, with changes at the top level."""

    def values(**changes):
        recipe = dict(
            encoder_from=str(encoder_folder),
            steps=4,
            batch_size=4,
            micro_batch_size=2,
            probe=dict(kind="attentive", depth=1, num_heads=4),
            heads=[dict(learning_rates=[3e-3, 1e-3], weight_decays=[0.01, 0.1])],
            clips=dict(frames=4, frame_step=1, segments=2, views=2),
            data=video_data(clips_folder),
            run=dict(device="cpu", precision="fp32", log_every=1, save_every=2, validate_every=2),
        )
        return {**recipe, **changes}

    return values


def video_data(folder, **changes):
    return {
        "task": "classification",
        "train": {"kind": "csv", "path": str(folder / "train.csv")},
        "validation": {"kind": "csv", "path": str(folder / "validation.csv")},
        "augmentation": {"crop_scale": [0.5, 1.0]},
        **changes,
    }


@pytest.fixture
def write_recipe(tmp_path):
    def write(values, name="recipe.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(values))
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="session")
def make():
    """What writes clips, images and lists."""

    class Make:
        clip, image, list = (
            staticmethod(write_clip),
            staticmethod(write_image),
            staticmethod(write_list),
        )
        data = staticmethod(video_data)

    return Make
