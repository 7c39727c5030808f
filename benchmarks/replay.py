"""What a replay costs beyond the planning itself: in this process, and through a real server.

python -m benchmarks.replay [PATH...] [--model models/shipped] [--planner NAME] [--steps 60]

Without a path, made-up episodes of DROID's size are replayed: 15 rows per second, 1280 x 720 px, H.264. Planning is
encoding and searching as the planner itself reports them; judging, which asks for energies beyond the plan, is left out
of both sides. The rest is decoding, packing, the wire, sending goals, and waiting: the overhead.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from planner_server.planning import planners
from planner_server.replay.local_planner import LocalPlanner
from planner_server.served_model import load_served_model
from planner_server.settings import Settings
from robot_client.planner_client import ServerAddress
from robot_client.replay.checkpoint_server import CheckpointServer
from robot_client.replay.remote_planner import RemotePlanner
from robot_client.rest import RestClient, SessionOptions
from trajectories.batch import Tally
from trajectories.cameras import ArrayCamera
from trajectories.droid_raw_writer import write_episode
from trajectories.episode import Episode, Provenance
from trajectories.replay import results
from trajectories.replay.engine import PlannerUnderTest, Replay
from trajectories.replay.selection import Selection

TARGET = 0.10
_ROWS_PER_S = 15
_EPISODE_S = 16
_FRAME = (720, 1280)
_CANDIDATES = 16  # judging is not what is measured


def main() -> None:
    """Measure both ways and print."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        paths = options.paths or [str(_made_up(Path(folder), options.steps))]
        print(f"{options.planner}, {options.model}, {', '.join(paths)}")
        print(f"{'way':<12}{'steps':>7}{'steps/s':>9}{'planning':>11}{'overhead':>10}   target")
        for way, planner in (("in process", _local(options)), ("wire", _remote(options))):
            with planner as opened:
                _print(way, _replay(opened, paths))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="recorded episodes; made-up ones without")
    parser.add_argument("--model", type=Path, default=Settings.model_fields["model"].default)
    parser.add_argument("--planner", choices=list(planners), default=planners.default)
    parser.add_argument("--steps", type=int, default=60, help="control steps made up (%(default)s)")
    return parser.parse_args()


@contextmanager
def _local(options: argparse.Namespace) -> Iterator[PlannerUnderTest]:
    settings = Settings(model=options.model)
    model = load_served_model(settings)
    with LocalPlanner(
        model,
        options.planner,
        horizon=settings.horizon,
        deadline_ms=None,
        batch=1,
        label="in process",
    ) as planner:
        yield planner


@contextmanager
def _remote(options: argparse.Namespace) -> Iterator[PlannerUnderTest]:
    with CheckpointServer(options.model) as server:
        rest = RestClient(server.url, timeout_s=120.0)
        address = ServerAddress(rest.model()["zmq_endpoint"])
        with RemotePlanner(
            address, rest, SessionOptions(planner=options.planner), "wire"
        ) as planner:
            yield planner


def _replay(planner: PlannerUnderTest, paths: list[str]) -> results.ReplayResult:
    settings = results.Settings(
        goal_steps=planner.card.horizon,
        every=1,
        draws=None,
        seed=0,
        view="auto",
        clock="real",
        candidates=_CANDIDATES,
    )
    tally, replay = Tally(), Replay(planner, settings)
    card = planner.card
    for selected in Selection.of(paths, settings).read(card.control_period_s, card.horizon, tally):
        replay.add(selected.episode, selected.view, selected.asked)
    return replay.result(tally.bad)


def _print(way: str, result: results.ReplayResult) -> None:
    timing, steps = result.timing, len(result.steps)
    busy_s = timing.wall_s - timing.judging_s
    overhead = timing.overhead if timing.overhead is not None else float("nan")
    print(
        f"{way:<12}{steps:>7}{steps / busy_s:>9.2f}{1e3 * timing.planning_s / steps:>8.0f} ms"
        f"{100 * overhead:>8.1f} %   <= {100 * TARGET:.0f} %, "
        f"{'reached' if overhead <= TARGET else 'missed'}"
    )


def _made_up(folder: Path, steps: int) -> Path:
    """Write episodes of DROID's rate and size that hold so many control steps of a second."""
    for index in range(-(-steps // _EPISODE_S)):
        rows = _ROWS_PER_S * min(_EPISODE_S, steps - index * _EPISODE_S) + 1
        random = np.random.default_rng(index)
        drift = np.cumsum(random.normal(0, 0.004, (rows, 7)), axis=0)
        states = drift + np.array([0.5, 0.0, 0.3, 3.0, 0.0, 0.1, 0.5])
        states[:, 6] = states[:, 6].clip(0, 1)
        coarse = random.integers(30, 220, (9, 16, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, _FRAME[::-1], interpolation=cv2.INTER_LINEAR)
        ground = np.asarray(smooth, np.uint8) + random.integers(0, 6, smooth.shape, np.uint8)
        frames = np.broadcast_to(ground, (rows, *_FRAME, 3))
        episode = Episode(
            name=f"made-up-{index}",
            states=states,
            times_s=np.arange(rows) / _ROWS_PER_S,
            cameras={"left": ArrayCamera(frames)},
            clock="measured",
            provenance=Provenance("droid_raw", "made up"),
        )
        write_episode(episode, folder / f"run_{index}")
    return folder


if __name__ == "__main__":
    main()
