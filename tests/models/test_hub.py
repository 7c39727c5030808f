"""The hub entry points have the published names and give the published networks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import load_encoder, save_world_model
from models.config import MaskPredictorConfig, TimmEncoderConfig, tiny, vit_huge, vit_large
from models.convert import save_published
from models.encoder import VisionTransformer
from models.errors import CheckpointMismatchError, ConfigurationError
from models.eval_transforms import preprocess_eval
from models.hub import vjepa2_ac_vit_giant, vjepa2_vit_huge, vjepa2_vit_large
from models.identity import blank
from models.world_model import WorldModel

REPOSITORY = str(Path(__file__).resolve().parents[2])
MILLIONS = {
    "vjepa2_vit_large": (304, 22),
    "vjepa2_vit_huge": (632, 22),
    "vjepa2_vit_giant": (1012, 22),
    "vjepa2_vit_giant_384": (1012, 22),
    "vjepa2_ac_vit_giant": (1012, 305),
}


@pytest.mark.parametrize("name", list(MILLIONS))
def test_every_published_name_gives_encoder_and_predictor(name: str) -> None:
    networks = torch.hub.load(REPOSITORY, name, source="local", pretrained=False, device="meta")
    sizes = [round(sum(weight.numel() for weight in n.parameters()) / 1e6) for n in networks]
    assert tuple(sizes) == MILLIONS[name]
    assert not any(network.training for network in networks)
    side = 24 if name.endswith("384") else 16
    assert networks[0].config.grid_size == networks[1].config.grid_size == (side, side)


def test_a_misspelt_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="use_ropes"):
        torch.hub.load(
            REPOSITORY,
            "vjepa2_vit_large",
            source="local",
            pretrained=False,
            device="meta",
            use_ropes=True,
        )


def test_the_preprocessor_is_the_evaluation_transform() -> None:
    preprocess = torch.hub.load(REPOSITORY, "vjepa2_preprocessor", source="local", crop_size=32)
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    (clip,) = preprocess(frames)
    assert clip.shape == (3, 4, 32, 32)
    assert torch.equal(clip, preprocess_eval(torch.from_numpy(frames), 32))
    assert torch.equal(clip, preprocess(list(frames))[0])


@pytest.fixture
def thin_file(tmp_path: Path) -> Path:
    """A file with the shapes of `vitl.pt`; every tensor is one stored number, repeated."""

    def thin(config: object) -> dict[str, torch.Tensor]:
        network = blank(config)  # type: ignore[arg-type]
        return {
            f"module.backbone.{name}": torch.full((1,), 0.5).expand(value.shape)
            for name, value in network.state_dict().items()
        }

    masked = thin(MaskPredictorConfig(grid_size=(16, 16), embed_dim=1024))
    checkpoint = {"target_encoder": thin(vit_large()), "predictor": masked}
    torch.save(checkpoint, tmp_path / "vitl.pt")
    return tmp_path / "vitl.pt"


def test_weights_come_from_any_source(thin_file: Path) -> None:
    encoder, predictor = vjepa2_vit_large(weights=thin_file, device="meta", dtype=torch.bfloat16)
    assert encoder.config == vit_large()
    for network in (encoder, predictor):
        assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}
        assert not any(weight.requires_grad for weight in network.parameters())


def test_a_world_model_comes_from_any_source(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path / "ours")
    encoder, predictor = vjepa2_ac_vit_giant(weights=tmp_path / "ours", dtype=torch.float16)
    assert torch.equal(encoder.norm.weight, tiny_model.encoder.norm.weight.half())
    weight = tiny_model.predictor.predictor_proj.weight
    assert torch.equal(predictor.predictor_proj.weight, weight.half())


def test_a_world_model_with_an_encoder_of_timm_is_refused(tmp_path: Path) -> None:
    encoder = TimmEncoderConfig(timm_model="test_vit", img_size=(32, 32), embed_dim=64)
    predictor = tiny().predictor.model_copy(update={"grid_size": (2, 2), "embed_dim": 64})
    config = tiny().model_copy(update={"encoder": encoder, "predictor": predictor})
    save_world_model(WorldModel(config), tmp_path)
    with pytest.raises(ConfigurationError, match="holds no V-JEPA 2 encoder"):
        vjepa2_ac_vit_giant(weights=tmp_path)


def test_weights_of_another_network_are_refused(thin_file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"another encoder.*embed_dim=1280"):
        vjepa2_vit_huge(weights=thin_file, device="meta")
    assert vit_huge().embed_dim == 1280


def test_a_mask_predictor_that_lacks_a_layer_is_refused(thin_file: Path) -> None:
    checkpoint = torch.load(thin_file, weights_only=True)
    del checkpoint["predictor"]["module.backbone.mask_tokens.3"]
    torch.save(checkpoint, thin_file)
    with pytest.raises(CheckpointMismatchError, match=r"mask_tokens\.3"):
        vjepa2_vit_large(weights=thin_file, device="meta")


def test_what_is_drawn_can_be_saved_for_the_published_code(tmp_path: Path) -> None:
    config = vit_large().model_copy(update={"embed_dim": 48, "num_heads": 3, "depth": 1})
    encoder = VisionTransformer(config)
    save_published(encoder, tmp_path / "vit.pt")
    assert load_encoder(tmp_path / "vit.pt").config == config
