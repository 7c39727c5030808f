"""Tiny recordings, encoders and recipes that several tests of post-training share."""

import numpy as np
import pytest
import torch

from models.ac_predictor import ACPredictor
from models.config import ACPredictorConfig, EncoderConfig
from models.encoder import VisionTransformer
from models.weights import frozen
from training.episodes import Windows, names_of
from training.latents import FrameEncoder
from training.posttrain_config import PosttrainConfig
from trajectories.poses import difference
from trajectories.shards import ShardWriter

SIDE, LENGTH, EPISODES = 32, 6, 6
ENCODER = dict(img_size=[32, 32], patch_size=8, num_frames=4, embed_dim=48, depth=1, num_heads=2)
PREDICTOR = dict(
    grid_size=[4, 4], embed_dim=48, predictor_embed_dim=24, depth=2, num_heads=2, residual=True
)


def write_shards(folder, episodes=EPISODES, length=LENGTH, seed=0):
    """A bright square on a dark frame that stands where the robot does."""
    rng = np.random.default_rng(seed)
    writer = ShardWriter(folder / "shard-00000", length, (SIDE, SIDE), {"control_period_s": 1.0})
    for _ in range(episodes):
        states = np.zeros((length, 7))
        states[:, :3] = np.cumsum(rng.uniform(-0.1, 0.1, (length, 3)), axis=0)
        frames = np.full((length, SIDE, SIDE, 3), 40, dtype=np.uint8)
        for frame, state in zip(frames, states, strict=True):
            row, column = (int(np.clip(12 + 40 * s, 0, 24)) for s in state[:2])
            frame[row : row + 8, column : column + 8] = 220
        writer.append(frames, states, "test")
    writer.close()
    return folder


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "episodes")


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return FrameEncoder(frozen(VisionTransformer(EncoderConfig(**ENCODER))))


def posttrain_recipe(**changes):
    values = dict(
        name="tiny",
        predictor=PREDICTOR,
        control_period_s=1.0,
        max_step_m=0.15,
        action_scale_m=0.05,
        data=dict(strides=[1, 2]),
        loss=dict(context_frames=2, rollout_steps=2),
        steps=4,
        batch_size=4,
        optimiser=dict(learning_rate=dict(kind="wsd", peak=3e-3, warmup_steps=1)),
        run=dict(device="cpu", log_every=2, save_every=2),
    )
    return PosttrainConfig.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def pretrain_values():
    """Values of a tiny pretraining recipe on episodes, with changes at the top level."""

    def values(episodes, **changes):
        recipe = dict(
            steps=4,
            batch_size=8,
            micro_batch_size=2,
            encoder=dict(
                img_size=[32, 32], patch_size=8, num_frames=4, embed_dim=48, depth=2, num_heads=2
            ),
            predictor=dict(
                grid_size=[4, 4],
                embed_dim=48,
                predictor_embed_dim=24,
                depth=1,
                num_heads=2,
                num_mask_tokens=3,
            ),
            data=dict(
                clips=dict(kind="episodes", path=str(episodes), frames=4),
                stills=dict(kind="episodes", path=str(episodes), frames=1),
            ),
            momentum=[0.9, 0.99],
            optimiser=dict(learning_rate=dict(kind="wsd", peak=1e-3)),
            run=dict(device="cpu", precision="fp32", log_every=1, save_every=2),
        )
        return {**recipe, **changes}

    return values


class LinearEpisodes:
    """Episodes whose tokens are a fixed linear function of the position, layer-normed."""

    row_period_s = 1.0

    def __init__(self, episodes=12, length=6, tokens=4, dim=24, views=("camera",)):
        rng = np.random.default_rng(0)
        self._shape = (tokens, dim)
        self._views = views
        self._states = {}
        for number in range(episodes):
            states = np.zeros((length, 7))
            states[:, :3] = np.cumsum(rng.uniform(-0.1, 0.1, (length, 3)), axis=0)
            self._states[f"{number:03d}"] = states
        self._mixing = torch.randn(3, tokens * dim, generator=torch.Generator().manual_seed(1)) * 5
        self._offset = torch.randn(tokens * dim, generator=torch.Generator().manual_seed(2))

    @property
    def episodes(self):
        return list(self._states)

    def views(self, episode):
        return self._views

    def states(self, episode):
        return self._states[episode]

    def look(self, states):
        """What a camera sees of states `[..., 7]`: tokens `[..., N, D]`."""
        raw = states[..., :3].float() @ self._mixing + self._offset
        return torch.nn.functional.layer_norm(raw.unflatten(-1, self._shape), self._shape[-1:])

    def read(self, places):
        states = np.stack([self._states[p.episode][p.rows] for p in places])
        actions = difference(states[:, :-1], states[:, 1:])
        states = torch.from_numpy(states).float()
        return Windows(
            self.look(states), states, torch.from_numpy(actions).float(), names=names_of(places)
        )


LINEAR_PREDICTOR = dict(
    grid_size=[2, 2], embed_dim=24, predictor_embed_dim=32, depth=2, num_heads=2, residual=True
)


def tiny_predictor(**changes):
    torch.manual_seed(0)
    return ACPredictor(ACPredictorConfig.model_validate({**LINEAR_PREDICTOR, **changes}))


@pytest.fixture
def linear_episodes():
    return LinearEpisodes


@pytest.fixture
def make_predictor():
    return tiny_predictor


@pytest.fixture
def make_recipe():
    return posttrain_recipe


@pytest.fixture(scope="session")
def make_shards():
    return write_shards
