"""A trained probe names what a video shows, and misfits are refused in words."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from models.attentive_probe import AnticipationClassifier, AttentiveClassifier
from models.config import AttentiveProbeConfig, EncoderConfig, MaskPredictorConfig
from models.encoder import VisionTransformer
from models.errors import ProbeMismatchError
from models.eval_transforms import preprocess_views
from models.mask_predictor import MaskPredictor
from models.model_folder import save_encoder
from models.preprocess import preprocess_frames
from models.presets import ENCODER_PRESETS
from training.__main__ import main
from training.classification import InferenceConfig, load_probe, read_classes
from training.config import load_recipe
from training.errors import ConfigurationError
from training.probes.results import write_probe as write_run_folder
from training.probes.views import ClipConfig, segment_rows
from training.videos import VideoFiles
from trajectories.video_writer import VideoWriter

ENCODER = EncoderConfig(
    img_size=(32, 32), patch_size=8, num_frames=4, embed_dim=48, depth=2, num_heads=2
)
POOLER = AttentiveProbeConfig(embed_dim=48, num_heads=4, depth=2)
NAMES = ["lift", "drop", "push", "pull", "turn", "hold"]
CONFIGS = Path(__file__).parents[2] / "configs" / "probes" / "inference"


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    network = VisionTransformer(ENCODER).eval()
    save_encoder(network, tmp_path / "encoder")
    return network


@pytest.fixture
def video(tmp_path):
    rng = np.random.default_rng(0)
    writer = VideoWriter(tmp_path / "clip.mp4", (32, 64), fps=8.0)
    for frame in rng.integers(0, 255, (12, 4, 8, 3), dtype=np.uint8):
        writer.write(frame.repeat(8, axis=0).repeat(8, axis=1))
    writer.close()
    return tmp_path / "clip.mp4"


def write_probe(path, module, heads=1):
    state = {f"module.{name}": value for name, value in module.state_dict().items()}
    torch.save({"classifiers": [state] * heads, "epoch": 1}, path)
    return path


@pytest.fixture
def probe(tmp_path):
    torch.manual_seed(1)
    classifier = AttentiveClassifier(POOLER, len(NAMES)).eval()
    torch.nn.init.normal_(classifier.linear.weight, std=1.0)
    write_probe(tmp_path / "probe.pt", classifier)
    return classifier


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "probe.yaml"
    path.write_text(
        "num_heads: 4\nclips: {frames: 4, frame_step: 1, segments: 2, views: 2, resolution: 32}\n"
    )
    return path


def classify(tmp_path, video, *more):
    arguments = ["classify", str(video), "--config", str(tmp_path / "probe.yaml")]
    arguments += ["--probe", str(tmp_path / "probe.pt"), "--encoder", str(tmp_path / "encoder")]
    return main([*arguments, *map(str, more)])


def names_file(path, names=NAMES):
    path.write_text("\n".join(names) + "\n")
    return path


def test_the_command_prints_what_encoder_and_probe_say(
    tmp_path, encoder, probe, config, video, capsys
):
    classes = names_file(tmp_path / "names.txt")
    assert classify(tmp_path, video, "--classes", classes, "--json") == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    # The same by hand: two segments of four frames, each in two squares; tokens of segments together.
    stream = VideoFiles([str(video)]).open(0, np.random.default_rng(0))
    recipe = load_recipe(config, InferenceConfig)
    frames = torch.from_numpy(
        stream.read(segment_rows(12, stream.nominal_fps, recipe.clips, None).ravel())
    )
    stream.close()
    with torch.no_grad():
        views = torch.stack([preprocess_views(part, 32, 2) for part in frames.split(4)], dim=1)
        shares = torch.stack(
            [probe(encoder(view).flatten(0, 1)[None])[0].softmax(-1) for view in views]
        )
    values, places = shares.mean(dim=0).topk(5)
    assert [name for name, _ in answer["label"]] == [NAMES[place] for place in places]
    assert [share for _, share in answer["label"]] == pytest.approx(values.tolist(), abs=1e-4)


def test_the_table_has_the_top_classes_with_probabilities(
    tmp_path, encoder, probe, config, video, capsys
):
    classes = names_file(tmp_path / "names.txt")
    assert classify(tmp_path, video, "--classes", classes, "--top", 3) == 0
    printed = capsys.readouterr().out
    assert sum(name in printed for name in NAMES) == 3
    assert "probability" in printed


def test_probes_of_the_future_name_verb_noun_and_action(tmp_path, video, capsys):
    torch.manual_seed(0)
    sizes = MaskPredictorConfig(
        grid_size=(4, 4), embed_dim=48, predictor_embed_dim=24, depth=1, num_heads=2
    )
    save_encoder(
        VisionTransformer(ENCODER),
        tmp_path / "encoder",
        {"recipe": {"predictor": sizes.model_dump(mode="json")}},
        mask_predictor=MaskPredictor(sizes).state_dict(),
    )
    write_probe(tmp_path / "probe.pt", AnticipationClassifier(POOLER, 3, 4, 5))
    (tmp_path / "probe.yaml").write_text(
        "num_heads: 4\nahead_s: 1.0\nclips: {frames: 4, fps: 4, resolution: 32}\n"
    )
    assert classify(tmp_path, video, "--json") == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [len(answer[q]) for q in ("verb", "noun", "action")] == [3, 4, 5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: names_file(t / "names.txt", NAMES[:-1]), "5 names for label, the probe has 6"),
        (lambda t: save_encoder(VisionTransformer(wide()), t / "encoder"), "48 channels, the encoder gives 96"),
        (lambda t: save_encoder(VisionTransformer(large()), t / "encoder"), "32 px, this one learned from 64"),
        (lambda t: (t / "probe.yaml").write_text("num_heads: 4\noutputs: [174]\n"), r"\[6\] classes"),
        (lambda t: (t / "probe.yaml").write_text("num_heads: 5\n"), "do not make 5 attention heads"),
        (lambda t: (t / "clip.mp4").write_bytes(b"no video"), "clip.mp4 is not a video"),
        (lambda t: (t / "probe.pt").unlink(), "no checkpoint at"),
        (lambda t: (t / "probe.yaml").write_text("head: 3\nnum_heads: 4\n"), "has no head 3"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused_in_words(
    tmp_path, encoder, probe, config, video, capsys, change, words
):
    names_file(tmp_path / "names.txt")
    change(tmp_path)
    assert classify(tmp_path, video, "--classes", tmp_path / "names.txt") == 1
    assert re.search(words, capsys.readouterr().err)


def wide():
    return ENCODER.model_copy(update={"embed_dim": 96})


def large():
    return ENCODER.model_copy(update={"img_size": (64, 64)})


def test_classes_come_in_the_order_of_their_numbers(tmp_path):
    by_name, by_number, plain = (tmp_path / f"{name}.json" for name in "abc")
    by_name.write_text(json.dumps({"push": "2", "lift": "0", "drop": "1"}))
    by_number.write_text(json.dumps({"2": "push", "0": "lift", "1": "drop"}))
    plain.write_text(json.dumps(["lift", "drop", "push"]))
    for path in (by_name, by_number, plain):
        assert read_classes(path, (3,)) == {"label": ("lift", "drop", "push")}


def test_classes_of_several_questions_come_by_question(tmp_path):
    path = tmp_path / "ek100.json"
    path.write_text(json.dumps({"noun": ["cup"], "verb": ["take", "put"], "action": ["take cup"]}))
    found = read_classes(path, (2, 1, 1))
    assert list(found) == ["verb", "noun", "action"]
    with pytest.raises(ProbeMismatchError, match="2 names for verb, the probe has 97"):
        read_classes(path, (97, 300, 3568))


def test_a_probe_that_anticipates_needs_to_know_when(tmp_path):
    write_probe(tmp_path / "probe.pt", AnticipationClassifier(POOLER, 3, 4, 5))
    with pytest.raises(ProbeMismatchError, match="need the time"):
        load_probe(InferenceConfig(probe=str(tmp_path / "probe.pt"), num_heads=4))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_of_published_probes_fit_their_encoders(path):
    config = load_recipe(path, InferenceConfig)
    name = "vit_giant_384" if "384" in path.stem else "vit_large"
    preset = ENCODER_PRESETS[name]()
    assert config.clips.resolution == preset.img_size[0] == config.clips.side_px(preset)
    assert config.probe.startswith("https://dl.fbaipublicfiles.com/vjepa2/evals/")
    assert config.published
    if config.out_layers:
        assert config.out_layers[-1] == preset.depth - 1
    assert (config.outputs is None) == (config.ahead_s is not None)


def test_all_six_published_probes_have_a_configuration():
    assert len(list(CONFIGS.glob("*.yaml"))) == 6


def description_of(clips, **more):
    """What a probe run writes about itself."""
    return {
        "probe": {
            "kind": "attentive",
            "depth": 2,
            "num_heads": 4,
            "mlp_ratio": 4.0,
            "embed_dim": 48,
        },
        "outputs": {"label": len(NAMES)},
        "classes": NAMES,
        "clips": clips.model_dump(mode="json"),
        "out_layers": [0, 1],
        **more,
    }


def test_the_folder_of_a_probe_run_brings_clips_and_classes(
    tmp_path, encoder, probe, video, capsys
):
    clips = ClipConfig(frames=4, frame_step=2, geometry="centre_square")
    write_run_folder(tmp_path / "run", probe.state_dict(), description_of(clips))
    arguments = ["classify", str(video), "--probe", str(tmp_path / "run")]
    assert main([*arguments, "--encoder", str(tmp_path / "encoder"), "--json", "--top", "6"]) == 0
    answer = dict(json.loads(capsys.readouterr().out.strip().splitlines()[-1])["label"])
    frames = torch.from_numpy(
        VideoFiles([str(video)]).open(0, np.random.default_rng(0)).read([0, 2, 5, 7])
    )
    view = preprocess_frames(frames, (32, 32)).transpose(0, 1)[None]
    with torch.no_grad():
        shares = probe(torch.cat(encoder.levels(view, [0, 1]), dim=1))[0].softmax(-1)
    for name, share in zip(NAMES, shares.tolist(), strict=True):
        assert answer[name] == pytest.approx(share, abs=1e-4)


def test_a_probe_of_ones_own_is_refused_with_an_encoder_of_another_frame_size(
    tmp_path, encoder, probe, video, capsys
):
    description = description_of(ClipConfig(frames=4), img_size_px=64)
    write_run_folder(tmp_path / "run", probe.state_dict(), description)
    arguments = ["classify", str(video), "--probe", str(tmp_path / "run")]
    assert main([*arguments, "--encoder", str(tmp_path / "encoder")]) == 1
    assert "an encoder of 64 px" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--encoder", "e"], "no probe: give --probe"),
        (["--probe", "p"], "no encoder: give --encoder"),
        (["--probe", "p", "--encoder", "e", "--top", "0"], "--top 0: at least one class"),
        (["--probe", "p", "--encoder", "e", "--set", "head=1"], "--config, which is not given"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_loaded(arguments, said, capsys):
    assert main(["classify", "clip.mp4", *arguments]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "3", '{"a": "b"}', '{"0": "x", "2": "y"}'])
def test_a_file_that_is_no_list_of_classes_is_refused(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"names\.json is no list of classes"):
        read_classes(tmp_path / "names.json", (2,))
