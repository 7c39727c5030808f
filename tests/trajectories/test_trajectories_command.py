"""`python -m trajectories`: what it prints, what it writes, how it ends."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trajectories import commands
from trajectories.__main__ import main
from trajectories.dataset import open_dataset, open_episode
from trajectories.droid_raw_writer import write_episode
from trajectories.index import read_index
from trajectories.recorder import CameraSpec, EpisodeRecorder
from trajectories.shards import ShardWriter


@pytest.fixture
def run(capsys):
    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return status, streams.out, streams.err

    return call


def break_first(raw_folder):
    (raw_folder / "trajectory.h5").unlink()


def test_index_lists_every_episode_and_bears_bad_ones_as_told(run, raw_tree, raw_folder, tmp_path):
    break_first(raw_folder)
    output = tmp_path / "i.parquet"
    index = ("index", raw_tree, "--output", output, "--workers", "0")
    status, out, _ = run(*index)
    assert status == 0
    assert "3 episodes indexed" in out
    assert "bad: missing signals: 1" in out
    assert "run_0" in out
    assert [row["is_usable"] for row in read_index(output)] == [False, True, True]
    assert run(*index, "--max-bad", 1)[0] == 0
    status, _, err = run(*index, "--max-bad", 0)
    assert status == 2
    assert "1 bad episodes, 0 are allowed" in err


def test_check_fails_for_a_single_bad_episode(run, raw_tree, raw_folder):
    assert run("check", raw_tree, "--workers", "0")[:2] == (
        0,
        "3 episodes checked: 0 bad, 0 odd\n",
    )
    break_first(raw_folder)
    status, out, _ = run("check", raw_tree, "--workers", "0")
    assert status == 2
    assert "run_0: missing signals" in out


def test_info_describes_a_data_set_and_an_episode(run, raw_tree):
    status, out, _ = run("info", raw_tree)
    assert (status, "droid_raw, 3 episodes" in out, "#2 LAB" in out) == (0, True, True)
    status, out, _ = run("info", f"{raw_tree}#1")
    assert status == 0
    assert "11 in 2.00 s (5.00/s, measured clock)" in out
    assert "left: 11 frames of 64x48" in out


def test_info_tells_all_about_a_single_episode(run, raw_folder):
    status, out, _ = run("info", raw_folder)
    assert status == 0
    assert "droid_raw, 1 episodes" in out
    assert "10 in 1.80 s" in out


@pytest.mark.parametrize("command", ["info", "check"])
def test_what_is_odd_is_said_and_is_no_error(run, raw_folder, make_episode, tmp_path, command):
    still = make_episode(states=np.tile([0.4, 0, 0.3, 3.0, 0.1, 0.2, 0.5], (12, 1)))
    write_episode(still, tmp_path / "still")
    workers = ["--workers", "0"] if command == "check" else []
    status, out, _ = run(command, tmp_path / "still", *workers)
    assert status == 0
    assert "no motion: the flange moves less than 1 mm" in out


def test_long_lists_are_cut(run, raw_tree, monkeypatch):
    monkeypatch.setattr(commands, "_LISTED", 1)
    status, out, _ = run("info", raw_tree)
    assert (status, "#1" in out, "... and 2 more" in out) == (0, False, True)
    for file in raw_tree.rglob("trajectory.h5"):
        file.unlink()
    status, out, _ = run("check", raw_tree, "--workers", "0")
    assert (status, "run_1: " in out, "... and 2 more" in out) == (2, False, True)


@pytest.mark.parametrize(
    "words",
    [
        ["check", "data", "--workers", "-1"],
        ["show", "data", "--output", "a.png", "--columns", "0"],
        ["export", "data", "out", "--to", "droid_raw", "--limit", "-1"],
    ],
)
def test_numbers_that_mean_nothing_are_refused(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "a whole number of at least" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_an_error_and_no_traceback(run, raw_tree, tmp_path):
    (tmp_path / "file").write_text("")
    index = ("index", raw_tree, "--output", tmp_path / "file" / "i.parquet", "--workers", "0")
    status, _, err = run(*index)
    assert status == 1
    assert "is the path right and the disk writable?" in err


def test_an_interruption_says_that_nothing_is_lost(run, raw_tree, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "open_dataset", interrupt)
    status, _, err = run("info", raw_tree)
    assert (status, "goes on where it stood" in err) == (130, True)


def test_show_draws_a_picture(run, raw_tree, tmp_path):
    assert run("show", f"{raw_tree}#0", "--output", tmp_path / "a.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_convert_goes_there_and_back_and_on(run, raw_tree, tmp_path):
    there, back = tmp_path / "lerobot", tmp_path / "raw"
    assert run("convert", raw_tree, there, "--to", "lerobot_v3")[0] == 0
    assert run("convert", there, back, "--to", "droid_raw")[0] == 0
    first, last = open_dataset(raw_tree), open_dataset(back)
    assert [last.name(i) for i in range(3)] == [first.name(i) for i in range(3)]
    for original, copy in zip(first, last, strict=True):
        np.testing.assert_array_equal(copy.states, original.states)
        assert copy.signals.keys() == original.signals.keys()
    # Again: nothing is written twice.
    assert run("convert", raw_tree, there, "--to", "lerobot_v3")[:2] == (
        0,
        f"3 episodes are in {there}\n",
    )
    assert len(open_dataset(there)) == 3


def test_convert_skips_and_counts_what_cannot_be_written(run, raw_tree, raw_folder, tmp_path):
    video = raw_folder.parent / "run_1/recordings/MP4/left.mp4"
    video.write_bytes(video.read_bytes()[:100])
    break_first(raw_folder)
    for target in ("lerobot_v3", "droid_raw"):
        status, out, _ = run("convert", raw_tree, tmp_path / target, "--to", target)
        assert status == 2
        assert "1 episodes are in" in out
        assert "run_0: missing signals" in out
        assert "run_1: not written: " in out
    assert len(open_dataset(tmp_path / "lerobot_v3")) == 1


def test_convert_thins_out_to_a_control_period(run, raw_tree, tmp_path):
    convert = ("convert", raw_tree, tmp_path / "slow", "--to", "droid_raw", "--period-s", "1.0")
    assert run(*convert)[0] == 0
    episode = open_dataset(tmp_path / "slow").open(2)
    np.testing.assert_allclose(episode.times_s, [0, 1, 2])


def test_an_episode_that_never_lay_in_a_raw_tree_gets_a_place_there(run, tmp_path, make_episode):
    writer = ShardWriter(tmp_path / "data/shard-00000", 4, (48, 64), {"control_period_s": 0.5})
    episode = make_episode(rows=4)
    writer.append(episode.camera("left").read(range(4)), episode.states, "grasp")
    writer.close()
    convert = ("convert", tmp_path / "data", tmp_path / "raw", "--to", "droid_raw")
    assert run(*convert)[0] == 0
    (metadata,) = (tmp_path / "raw").rglob("metadata_*.json")
    place = tmp_path / "raw/shards/unknown/undated/episode-0"
    assert metadata.parent == place
    written = metadata.stat().st_mtime_ns
    assert run(*convert)[0] == 0
    assert metadata.stat().st_mtime_ns == written
    np.testing.assert_array_equal(open_episode(place).states, episode.states)


def test_an_episode_without_a_camera_is_not_written_as_raw(run, tmp_path, make_episode):
    write_episode(make_episode(views=(), extrinsics={}), tmp_path / "blind")
    status, out, _ = run("convert", tmp_path / "blind", tmp_path / "raw", "--to", "droid_raw")
    assert (status, "not written: blind has no camera" in out) == (2, True)


def test_export_chooses_by_number_and_by_index(run, raw_tree, tmp_path):
    index = tmp_path / "i.parquet"
    run("index", raw_tree, "--output", index, "--workers", "0")
    wanted = {
        ("--episodes", "0,2"): ["run_0", "run_2"],
        ("--episodes", "0-2", "--limit", "1"): ["run_0"],
        ("--index", index, "--task", "task [12]"): ["run_1", "run_2"],
        ("--index", index, "--success", "--min-rows", "11"): ["run_2"],
    }
    for number, (conditions, names) in enumerate(wanted.items()):
        output = tmp_path / str(number)
        assert run("export", raw_tree, output, "--to", "droid_raw", *conditions)[0] == 0
        data = open_dataset(output)
        assert [data.name(i).rpartition("/")[2] for i in range(len(data))] == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "7"], "goes beyond the 3 episodes"),
        (["--episodes", "a-b"], "is not like 0,4,10-19"),
        (["--task", "x"], "needs --index"),
        (["--limit", "0"], "no episode of"),
        (["--index", "{index}", "--task", "a("], "'a(' is no regular expression"),
        (["--index", "{index}.gone", "--success"], "is no index"),
        (["--index", "{video}", "--success"], "is no index"),
        (["--index", "{other}", "--success"], "is no index"),
    ],
)
def test_export_says_what_is_wrong_with_a_choice(run, raw_tree, tmp_path, arguments, message):
    index, other = tmp_path / "i.parquet", tmp_path / "other.parquet"
    run("index", raw_tree, "--output", index, "--workers", "0")
    pq.write_table(pa.table({"name": ["run_0"]}), other)
    video = next(raw_tree.rglob("*.mp4"))
    named = [argument.format(index=index, video=video, other=other) for argument in arguments]
    status, _, err = run("export", raw_tree, tmp_path / "o", "--to", "droid_raw", *named)
    assert status == 1
    assert message in err


def test_recover_finishes_what_was_cut_off(run, tmp_path):
    recorder = EpisodeRecorder(tmp_path / "run", {"left": CameraSpec((48, 64))}, fps=5)
    for row in range(5):
        recorder.append(np.full(7, row / 10), row, {"left": np.zeros((48, 64, 3), np.uint8)})
    for video in recorder._videos.values():
        video.close()
    recorder._journal.close()
    status, out, _ = run("recover", tmp_path)
    assert (status, "recovered" in out) == (0, True)
    assert len(open_episode(tmp_path / "run")) == 5
    assert "nothing to recover" in run("recover", tmp_path)[1]


def test_a_path_without_recordings_is_an_error_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "trajectories", "check", tmp_path],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_without_the_data_extra_a_command_says_what_to_install(raw_tree):
    program = (
        "import runpy, sys; sys.modules['h5py'] = None; "
        f"sys.argv = ['trajectories', 'info', {str(raw_tree) + '#0'!r}]; "
        "runpy.run_module('trajectories', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "pip install 'vjepa-planner[data]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_reading_needs_no_torch():
    program = (
        "import sys; sys.modules['torch'] = None; "
        "import trajectories.__main__, trajectories.dataset, trajectories.recorder, "
        "trajectories.lerobot.writer; "
        "heavy = {'h5py', 'av', 'pyarrow', 'matplotlib', 'cv2', 'pandas'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
