"""Name what a video shows, with a frozen encoder and a probe that was trained before.

Nothing is learned here. The probe is a published `.pt` file, or the folder that `python -m training probe` left.

Letters in shapes: V views, S segments, T frames, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from models.config import AttentiveProbeConfig, EncoderConfig, FrozenConfig
from models.errors import ProbeMismatchError
from models.model_folder import WEIGHTS_FILE, read_safetensors
from models.probe_file import open_probe
from training.errors import ConfigurationError, DataError
from training.probes.anticipation import rows_until
from training.probes.features import FeatureEncoder
from training.probes.heads import HeadStack, draw_heads
from training.probes.trained import read_description
from training.probes.views import ClipConfig, evaluation_views, segment_rows
from trajectories.cameras import CameraStream

Classes = Mapping[str, tuple[str, ...]]
"""Names of the classes by question: `label`, or `verb`, `noun` and `action`."""

LABEL: Final = "label"
_QUESTIONS: Final = {1: (LABEL,), 3: ("verb", "noun", "action")}


class InferenceConfig(FrozenConfig):
    """How a trained probe is asked (`configs/probes/inference/`)."""

    encoder: str | None = Field(default=None, description="Anything that `models` opens.")
    probe: str | None = Field(default=None, description="`.pt` file, URL, or folder of a run.")
    head: NonNegativeInt | None = Field(
        default=None, description="Which head of the file; None: its only one."
    )
    num_heads: PositiveInt = Field(
        default=16, description="Attention heads of the pooler; a `.pt` file does not tell."
    )
    out_layers: tuple[NonNegativeInt, ...] | None = Field(
        default=None, description="Blocks whose tokens the probe was trained on; None: the last."
    )
    clips: ClipConfig = Field(default=ClipConfig(frame_step=4), description="What it sees.")
    outputs: tuple[PositiveInt, ...] | None = Field(
        default=None, description="Numbers of classes that the probe has to have."
    )
    ahead_s: PositiveFloat | None = Field(
        default=None, description="How long after the video the action begins [s]; anticipation."
    )
    published: str | None = Field(
        default=None, description="Published result of this probe, for the documentation."
    )


@dataclass(frozen=True)
class LoadedProbe:
    """A probe that is ready to be asked.

    Attributes:
        source: Where it comes from.
        network: The probe, a stack of one head.
        width: Channels of the tokens that it reads.
        outputs: Number of classes for every question.
        config: How it is asked.
        classes: Their names, where the probe brings them.
        img_size_px: Side of the frames that its encoder learned from, where it is known.
    """

    source: str
    network: HeadStack
    width: int
    outputs: tuple[int, ...]
    config: InferenceConfig
    classes: Classes | None
    img_size_px: int | None = None


def load_probe(config: InferenceConfig) -> LoadedProbe:
    """Load the probe of a configuration.

    Raises:
        ConfigurationError: No probe is named, or its folder cannot be read.
        ProbeMismatchError: It has other classes or heads than the configuration says.
        ModelError: Its weights are missing or damaged.
    """
    if config.probe is None:
        raise ConfigurationError("no probe: give --probe, a .pt file or the folder of a probe run")
    loaded = _from_folder(config) if Path(config.probe).is_dir() else _from_file(config)
    if (len(loaded.outputs) == 1) != (config.ahead_s is None):
        raise ProbeMismatchError(
            f"{loaded.source} answers {', '.join(_QUESTIONS[len(loaded.outputs)])}, and ahead_s is "
            f"{config.ahead_s}; probes that anticipate need the time from the video to the action [s], "
            "others take none"
        )
    if config.outputs is not None and loaded.outputs != config.outputs:
        raise ProbeMismatchError(
            f"{loaded.source} has {list(loaded.outputs)} classes, the configuration expects "
            f"{list(config.outputs)}; this is the probe of another data set"
        )
    return loaded


def check_fit(loaded: LoadedProbe, encoder: EncoderConfig) -> int:
    """Return the side of the square that encoder and probe agree on [px].

    Raises:
        ProbeMismatchError: They do not, or the probe reads tokens of another width.
        ConfigurationError: The encoder cannot take such clips.
    """
    if loaded.width != encoder.embed_dim:
        raise ProbeMismatchError(
            f"{loaded.source} was trained on tokens of {loaded.width} channels, the encoder gives "
            f"{encoder.embed_dim}; use the encoder that it was trained with"
        )
    # A published configuration names the resolution of the encoder that it belongs to.
    wanted, own = loaded.img_size_px or loaded.config.clips.resolution, encoder.img_size[0]
    if wanted is not None and wanted != own:
        raise ProbeMismatchError(
            f"{loaded.source} was trained with an encoder of {wanted} px, this one learned from {own} px; "
            "use the encoder that it was trained with"
        )
    return loaded.config.clips.side_px(encoder)


def read_classes(path: Path, outputs: Sequence[int]) -> Classes:
    """Read names of classes, and hold them against a probe.

    Args:
        path: One name per line; or JSON: a list, an object of names by number ("0": ..) or of numbers
            by name, as Something-Something publishes them, or lists by question.
        outputs: Numbers of classes of the probe.

    Raises:
        ConfigurationError: The file cannot be read.
        ProbeMismatchError: It has other numbers of classes.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = _parse(text) if path.suffix == ".json" else {LABEL: _lines(text)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is no list of classes ({error!r}); write one name per line, or JSON"
        ) from error
    questions = _QUESTIONS[len(outputs)]
    for question, count in zip(questions, outputs, strict=True):
        if len(found.get(question, ())) != count:
            raise ProbeMismatchError(
                f"{path} has {len(found.get(question, ()))} names for {question}, the probe has {count} "
                f"classes (questions: {', '.join(questions)}); give the list that it was trained with"
            )
    return {question: found[question] for question in questions}


def numbered(outputs: Sequence[int]) -> Classes:
    """Return numbers in the place of names."""
    return {
        question: tuple(f"class {number}" for number in range(count))
        for question, count in zip(_QUESTIONS[len(outputs)], outputs, strict=True)
    }


class VideoClassifier:
    """A frozen encoder, a probe, and the names of its classes.

    Args:
        encoder: The encoder.
        probe: The probe.
        classes: Names, where the probe does not bring them; numbers stand in for them.

    Raises:
        ProbeMismatchError: Encoder and probe do not belong together.
        ConfigurationError: The encoder cannot take such clips.
    """

    def __init__(
        self, encoder: FeatureEncoder, probe: LoadedProbe, classes: Classes | None = None
    ) -> None:
        self._encoder = encoder
        self._probe = probe
        self._side_px = check_fit(probe, encoder.network.config)
        self.classes = classes or probe.classes or numbered(probe.outputs)

    @torch.no_grad()
    def classify(self, video: CameraStream) -> dict[str, Tensor]:
        """Return the probability of every class `[C]` by question.

        Views are judged one by one and averaged. Answers of anticipating probes are independent
        of one another and do not add up to one.

        Raises:
            DataError: The video has no frames, or no rate where one is needed.
            TrajectoryError: A frame cannot be decoded.
        """
        clips, ahead_s = self._clips(video)
        tokens = self._encoder.encode(clips, ahead_s).float()
        answers = self._probe.network(tokens)  # one question after the other, [1, V, C]
        is_one = len(answers) == 1
        shares = [(a.softmax(dim=-1) if is_one else a.sigmoid())[0].mean(dim=0) for a in answers]
        return dict(zip(self.classes, (share.cpu() for share in shares), strict=True))

    def best(self, video: CameraStream, count: int) -> dict[str, list[tuple[str, float]]]:
        """Return the most probable classes by question, each with its probability."""
        found = {}
        for question, shares in self.classify(video).items():
            values, places = shares.topk(min(count, len(shares)))
            names = [self.classes[question][place] for place in places.tolist()]
            found[question] = list(zip(names, values.tolist(), strict=True))
        return found

    def _clips(self, video: CameraStream) -> tuple[Tensor, float | None]:
        """Return clips `[V, S, 3, T, side, side]`, and how far the future is that is asked about."""
        config = self._probe.config
        if config.ahead_s is None:
            rows = segment_rows(len(video), video.nominal_fps, config.clips, None)
        else:
            if video.nominal_fps is None:
                raise DataError("the video has no frame rate, which anticipation needs")
            end_s = (len(video) - 1) / video.nominal_fps
            rows = rows_until(end_s, len(video), video.nominal_fps, config.clips)[None]
        pixels = video.read(rows.ravel())
        frames = torch.from_numpy(pixels.reshape(*rows.shape, *pixels.shape[1:]))
        return evaluation_views(frames, config.clips, self._side_px), config.ahead_s


def _from_file(config: InferenceConfig) -> LoadedProbe:
    source = str(config.probe)
    file = open_probe(source, config.num_heads)
    state = file.head(config.head)
    network = draw_heads(file.config, file.config.embed_dim, file.classes, 1, seed=0)
    network.load_heads([state], source)
    return LoadedProbe(
        source, network.eval(), file.config.embed_dim, file.classes, config, classes=None
    )


def _from_folder(config: InferenceConfig) -> LoadedProbe:
    """Load what a run left; it knows by itself how it is asked."""
    folder = Path(str(config.probe))
    description = read_description(folder)
    kind, outputs = dict(description["probe"]), tuple(description["outputs"].values())
    width = int(kind["embed_dim"])
    is_attentive = kind.pop("kind") == "attentive"
    pooler = AttentiveProbeConfig.model_validate(kind) if is_attentive else None
    network = draw_heads(pooler, width, outputs, 1, seed=0)
    network.load_heads([read_safetensors(folder / WEIGHTS_FILE)], str(folder))
    stored = description["classes"]
    names = stored if isinstance(stored, dict) else {LABEL: stored}
    clips = ClipConfig.model_validate(description["clips"])
    own = config.model_copy(update={"clips": clips, "out_layers": description["out_layers"]})
    classes = {question: tuple(map(str, each)) for question, each in names.items()}
    return LoadedProbe(
        str(folder), network.eval(), width, outputs, own, classes, description.get("img_size_px")
    )


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    content = json.loads(text)
    if isinstance(content, list):
        return {LABEL: tuple(map(str, content))}
    if any(isinstance(value, list) for value in content.values()):
        return {question: tuple(map(str, names)) for question, names in content.items()}
    if all(name.isdigit() for name in content):
        ordered = [content[str(number)] for number in range(len(content))]
    else:
        ordered = sorted(content, key=lambda name: int(content[name]))
    return {LABEL: tuple(map(str, ordered))}


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
