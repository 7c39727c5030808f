"""Recording: a row that was appended survives whatever happens next."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trajectories.recorder as module
from trajectories.dataset import open_dataset, open_episode
from trajectories.droid_raw import JOURNAL_FILE
from trajectories.errors import BadEpisodeError, CorruptDataError, InvalidEpisodeError
from trajectories.recorder import CameraSpec, EpisodeRecorder, recover

CAMERAS = {
    "left": CameraSpec((48, 64), serial="111"),
    "scene": CameraSpec((48, 64), extrinsics=(0.1, 0.2, 0.3, 0.0, 0.5, 0.0)),
}


def record(recorder, episode, rows):
    frames = episode.camera("left").read(rows)
    for row, frame in zip(rows, frames, strict=True):
        signals = {"action/raw": episode.states[row], "planner/energy": 0.5 * row}
        recorder.append(
            episode.states[row], 100 + row / 5, {"left": frame, "scene": frame}, signals
        )


def cut_off(tmp_path, episode, rows):
    """What lies on disk if the power goes while rows are being recorded."""
    with EpisodeRecorder(tmp_path / "running", CAMERAS, fps=5) as recorder:
        record(recorder, episode, rows)
        return shutil.copytree(tmp_path / "running", tmp_path / "run")


def test_a_recording_is_a_raw_episode(tmp_path, make_episode):
    episode = make_episode()
    recorder = EpisodeRecorder(
        tmp_path / "run", CAMERAS, fps=5, task="pick", attributes={"model_hash": "abc"}
    )
    record(recorder, episode, range(12))
    recorder.close(success=True)
    with open_episode(tmp_path / "run") as read:
        np.testing.assert_array_equal(read.states, episode.states)
        np.testing.assert_allclose(read.times_s, np.arange(12) / 5, atol=1e-9)
        np.testing.assert_array_equal(read.signals["action/raw"], episode.states)
        np.testing.assert_array_equal(read.signals["planner/energy"], 0.5 * np.arange(12))
        np.testing.assert_allclose(read.extrinsics["scene"][7], CAMERAS["scene"].extrinsics)
        assert (read.task, read.success, read.clock) == ("pick", True, "measured")
        assert read.provenance.attributes["model_hash"] == "abc"
        loss = read.camera("scene").read(range(12)).astype(int) - episode.camera("left").read(
            range(12)
        )
        assert np.abs(loss).mean() < 6
    left_behind = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left_behind == {"metadata_run.json", "trajectory.h5", "111.mp4", "scene.mp4"}


def test_other_files_may_lie_beside_a_recording(tmp_path, make_episode):
    (tmp_path / "task.json").write_text("{}")
    with EpisodeRecorder(tmp_path, CAMERAS, fps=5) as recorder:
        record(recorder, make_episode(), range(3))
    assert len(open_episode(tmp_path)) == 3
    assert open_episode(tmp_path).success is None  # nobody said


def test_while_it_is_recorded_readers_say_so(tmp_path, make_episode):
    with EpisodeRecorder(tmp_path / "run", CAMERAS, fps=5) as recorder:
        record(recorder, make_episode(), range(3))
        with pytest.raises(BadEpisodeError, match=r"run: unfinished: .*recover"):
            open_dataset(tmp_path).open(0)


_RECORD = """
import sys, time
from pathlib import Path
import numpy as np
from trajectories.recorder import CameraSpec, EpisodeRecorder
recorder = EpisodeRecorder(Path(sys.argv[1]), {"left": CameraSpec((48, 64))}, fps=5)
for row in range(100000):
    frame = np.full((48, 64, 3), 3 * row % 200, np.uint8)
    recorder.append(np.full(7, row / 1e6), row / 5, {"left": frame}, {"row": row})
    print(row, flush=True)
"""


def test_a_killed_recorder_loses_no_appended_row(tmp_path):
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", _RECORD, str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == 40:
                break
        os.kill(process.pid, signal.SIGKILL)
    assert recover(folder) == folder
    episode = open_episode(folder)
    assert len(episode) >= 40  # the encoder may keep the newest frame
    np.testing.assert_array_equal(episode.signals["row"], np.arange(len(episode)))
    for row, frame in enumerate(episode.camera("left").frames()):
        assert abs(frame.mean() - 3 * row % 200) < 4
    assert recover(folder) is None


@pytest.mark.parametrize("journal_share", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("video_share", [0.8, 1.0])
def test_a_power_cut_leaves_the_rows_that_are_whole_everywhere(
    tmp_path, make_episode, journal_share, video_share
):
    episode = make_episode()
    folder = cut_off(tmp_path, episode, range(12))
    shares = {JOURNAL_FILE: journal_share, ".111.live.mp4": video_share}
    for path in [path for path in folder.rglob("*") if path.name in shares]:
        path.write_bytes(path.read_bytes()[: int(shares[path.name] * path.stat().st_size)])
    recover(folder)
    read = open_episode(folder)
    assert 1 <= len(read) <= 12
    np.testing.assert_array_equal(read.states, episode.states[: len(read)])
    for view in ("left", "scene"):
        assert len(read.camera(view).read(range(len(read)))) == len(read)
    if journal_share == 1.0 and video_share < 1.0:
        assert read.provenance.attributes["rows_lost"] == 12 - len(read)


def test_recovering_twice_and_half_way_gives_the_same(tmp_path, make_episode, monkeypatch):
    folder = cut_off(tmp_path, make_episode(), range(6))

    def power_cut(*_arguments):
        raise OSError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_metadata", power_cut)
        with pytest.raises(OSError, match="no power"):
            recover(folder)
    with pytest.raises(BadEpisodeError, match="unfinished"):
        open_episode(folder)
    recover(folder)
    assert len(open_episode(folder)) >= 5  # the newest frame waits for the next one


def test_rows_whose_video_is_lost_are_kept_and_said(tmp_path, make_episode):
    folder = cut_off(tmp_path, make_episode(), range(6))
    (folder / "recordings/MP4/.111.live.mp4").write_bytes(b"")
    journal = (folder / JOURNAL_FILE).read_bytes()
    with pytest.raises(CorruptDataError, match="6 rows and a video without a whole frame"):
        recover(folder)
    assert (folder / JOURNAL_FILE).read_bytes() == journal


def test_an_episode_without_rows_leaves_nothing(tmp_path):
    EpisodeRecorder(tmp_path, CAMERAS, fps=5).close(success=None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json\n", "damaged"),
        ('{"fps": 5, "serials": {}, "attributes": {}, "extrinsics": {}}\n7\n', "damaged"),
        ('{"fps": 5, "serials": {}, "attributes": {}}\n', "does not begin like a recording"),
    ],
)
def test_a_journal_of_something_else_is_not_touched(tmp_path, content, message):
    (tmp_path / JOURNAL_FILE).write_text(content)
    with pytest.raises(CorruptDataError, match=message):
        recover(tmp_path)
    assert (tmp_path / JOURNAL_FILE).exists()


def test_a_power_cut_before_the_first_line_leaves_nothing_to_recover(tmp_path):
    (tmp_path / JOURNAL_FILE).write_text('{"fps": 5, "seri')
    assert recover(tmp_path) is None
    assert not (tmp_path / JOURNAL_FILE).exists()


@pytest.mark.parametrize(
    ("every_s", "names"),
    [(0.0, {JOURNAL_FILE, ".111.live.mp4", ".scene.live.mp4"}), (3600.0, set())],
)
def test_what_was_appended_is_put_on_disk_every_now_and_then(
    tmp_path, make_episode, monkeypatch, every_s, names
):
    synced = set()
    monkeypatch.setattr(module, "_SYNC_EVERY_S", every_s)
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.add(Path(f"/dev/fd/{handle}").readlink())
    )
    with EpisodeRecorder(tmp_path / "run", CAMERAS, fps=5) as recorder:
        record(recorder, make_episode(), range(2))
        assert {path.name for path in synced} == names


BAD_ROWS = {
    "finite": dict(state=np.full(7, np.nan)),
    "7 finite numbers": dict(state=np.zeros(6)),
    "follows one at": dict(time_s=100.0),
    "the cameras are": dict(frames={}),
    "expected uint8": dict(frames={v: np.zeros((40, 64, 3), np.uint8) for v in ("left", "scene")}),
    "the first row had": dict(signals={"planner/energy": [1.0, 2.0]}),
    "numbers or booleans": dict(signals={"planner/energy": "low"}),
}


@pytest.mark.parametrize("message", BAD_ROWS)
def test_a_row_that_does_not_fit_is_refused_and_leaves_no_trace(tmp_path, message):
    frame = np.zeros((48, 64, 3), np.uint8)
    good = dict(
        state=np.zeros(7),
        time_s=100.0,
        frames={"left": frame, "scene": frame},
        signals={"planner/energy": 1.0},
    )
    with EpisodeRecorder(tmp_path, CAMERAS, fps=5) as recorder:
        recorder.append(**good)
        with pytest.raises(InvalidEpisodeError, match=message):
            recorder.append(**(good | dict(time_s=101.0) | BAD_ROWS[message]))
        recorder.append(**(good | dict(time_s=102.0)))
    assert len(open_episode(tmp_path)) == 2


def test_a_folder_is_recorded_into_once(tmp_path):
    with (
        EpisodeRecorder(tmp_path, CAMERAS, fps=5),
        pytest.raises(InvalidEpisodeError, match="recover"),
    ):
        EpisodeRecorder(Path(tmp_path), CAMERAS, fps=5)
