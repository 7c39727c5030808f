"""Write episodes of any data set as raw DROID or LeRobot v3.0, all or some of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from trajectories.batch import Tally, usable
from trajectories.clock import resample
from trajectories.dataset import Dataset
from trajectories.droid_raw_writer import write_episode
from trajectories.episode import Episode
from trajectories.errors import BadEpisodeError, Defect, InvalidEpisodeError, TrajectoryError
from trajectories.lerobot.stage import source_of
from trajectories.lerobot.writer import LeRobotWriter
from trajectories.video_writer import Codec

Format = Literal["droid_raw", "lerobot_v3"]
FORMATS: tuple[str, ...] = get_args(Format)

_WHOLE_RATE_SLACK = 0.02


@dataclass(frozen=True)
class Conversion:
    """How to write episodes.

    Attributes:
        to: The format.
        output: Folder of the new data set; one that is there is added to.
        period_s: Thin out to this control period [s]; None keeps every row.
        codec: Of the videos.
        fps: Rows per second of a LeRobot data set; that of the first episode when None.
    """

    to: Format
    output: Path
    period_s: float | None = None
    codec: Codec = "h264"
    fps: float | None = None


def convert(
    dataset: Dataset,
    conversion: Conversion,
    indices: Iterable[int],
    progress: Callable[[Episode], None],
) -> Tally:
    """Write episodes; those that are there already are left as they are, bad ones are counted.

    Raises:
        TrajectoryError: The output cannot be written at all.
    """
    tally = Tally()
    writer: LeRobotWriter | None = None
    try:
        for episode in usable(dataset, tally, indices=indices):
            try:
                thinned = _thinned(episode, conversion.period_s)
                if conversion.to == "lerobot_v3":
                    if writer is None:
                        writer = _lerobot_writer(conversion, thinned)
                    if source_of(thinned) not in writer:
                        writer.add(thinned)
                else:
                    _write_raw(thinned, conversion)
            except TrajectoryError as error:
                tally.good -= 1
                tally.skip(BadEpisodeError(episode.name, [Defect("not written", str(error))]))
            progress(episode)
    finally:
        if writer is not None:
            writer.close()
    return tally


def raw_folder(episode: Episode, output: Path) -> Path:
    """Where an episode goes in a raw DROID tree: its old place there, if it had one."""
    known = episode.provenance.attributes
    lab = _safe(str(known.get("lab") or episode.provenance.format))
    place = PurePosixPath(str(known.get("hdf5_path", ""))).parent
    if len(place.parts) == 3 and not {"..", "/"} & set(place.parts):
        return output / lab / place
    outcome = {True: "success", False: "failure", None: "unknown"}[episode.success]
    date = _safe(str(known.get("date") or "undated"))
    return output / lab / outcome / date / _safe(episode.name)


def _thinned(episode: Episode, period_s: float | None) -> Episode:
    return episode if period_s is None else resample(episode, period_s)


def _lerobot_writer(conversion: Conversion, first: Episode) -> LeRobotWriter:
    fps = conversion.fps or first.fps or 1.0
    whole = round(fps)
    if whole and abs(fps / whole - 1) < _WHOLE_RATE_SLACK:
        fps = whole  # a robot's clock trembles, a data set's rate does not
    return LeRobotWriter(conversion.output, fps=fps, codec=conversion.codec)


def _write_raw(episode: Episode, conversion: Conversion) -> None:
    folder = raw_folder(episode, conversion.output)
    if folder.is_dir() and any(folder.glob("metadata_*.json")):
        return
    if not episode.cameras:
        raise InvalidEpisodeError(f"{episode.name} has no camera")
    write_episode(episode, folder, conversion.codec)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+:-]+", "-", name).strip("-.") or "episode"
