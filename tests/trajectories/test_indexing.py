"""Indexing: every episode gets a row, whatever it holds, and a scan goes on where it stood."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from trajectories import index as index_module
from trajectories.dataset import open_dataset
from trajectories.index import build_index, read_index
from trajectories.inspection import UNKNOWN_FRAMES, Finding, inspect, inspect_frames
from trajectories.scan import scan


def nothing(_finding):
    pass


def test_each_episode_is_described(raw_tree, tmp_path):
    rows = read_index(
        build_index(open_dataset(raw_tree), inspect, tmp_path / "i.parquet", 0, nothing)
    )
    assert [row["rows"] for row in rows] == [10, 11, 12]
    assert [row["frames"] for row in rows] == [[n, n] for n in (10, 11, 12)]
    first = rows[0]
    assert first["name"] == "LAB/success/2024-05-01/run_0"
    assert first["path"] == str(raw_tree / "LAB/success/2024-05-01/run_0")
    assert first["views"] == ["left", "wrist"]
    assert (first["task"], first["success"], first["clock"]) == ("task 0", True, "measured")
    assert (round(first["fps"], 6), first["video_fps"]) == (5.0, 5.0)
    assert first["duration_s"] == pytest.approx(1.8)
    assert all(row["is_usable"] and not row["defects"] for row in rows)


def test_bad_episodes_are_rows_with_defects(raw_tree, raw_folder, tmp_path):
    (raw_folder / "recordings/MP4/left.mp4").write_bytes(b"")
    (raw_folder.parent / "run_1/trajectory.h5").unlink()
    videos = raw_folder.parent / "run_2/recordings/MP4"
    shutil.copy(raw_folder / "recordings/MP4/wrist.mp4", videos / "left.mp4")
    rows = read_index(
        build_index(open_dataset(raw_tree), inspect, tmp_path / "i.parquet", 0, nothing)
    )
    assert [row["is_usable"] for row in rows] == [False, False, False]
    assert rows[2]["frames"] == [10, 12]
    assert rows[2]["defects"][0].startswith("length mismatch: left: ")
    assert rows[0]["frames"] == [UNKNOWN_FRAMES, 10]
    assert rows[0]["defects"][0].startswith("corrupt video: left: ")
    assert rows[1]["defects"][0].startswith("missing signals: ")


def test_only_decoding_finds_damage_within_a_video(tmp_path, shared_dir):
    source = shared_dir / "data/droid_raw/CTRL/success/2023-07-31/Mon_Jul_31_19:06:00_2023"
    shutil.copytree(source, tmp_path / "run", copy_function=shutil.copyfile)
    video = tmp_path / "run/recordings/MP4/10000002.mp4"
    content = bytearray(video.read_bytes())
    content[60_000:60_200] = bytes(200)
    video.chmod(0o644)
    video.write_bytes(content)
    data = open_dataset(tmp_path)
    assert inspect(data, 0).is_usable
    [defect] = inspect_frames(data, 0).defects
    assert defect.kind == "corrupt video"
    assert defect.detail.startswith("right: frame ")


@pytest.mark.parametrize("part_rows", [1, 1000])
def test_an_interrupted_scan_goes_on_where_it_stood(raw_tree, tmp_path, monkeypatch, part_rows):
    monkeypatch.setattr(index_module, "PART_ROWS", part_rows)
    data, output = open_dataset(raw_tree), tmp_path / "i.parquet"
    seen = []

    def interrupt(finding):
        seen.append(finding)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(data, inspect, output, 0, interrupt)
    assert not output.exists()
    again = []
    build_index(data, inspect, output, 0, again.append)
    known = [finding for finding in again if finding is None]
    assert len(known) >= 1
    assert len(known) + len([f for f in again if f is not None]) == 3
    assert [row["rows"] for row in read_index(output)] == [10, 11, 12]
    assert not output.with_name("i.parquet.parts").exists()


def die(dataset, number):
    if number == 1:
        os._exit(139)  # as a decoder that reads where it should not
    return inspect(dataset, number)


def hang(dataset, number):
    if number == 1:
        time.sleep(600)
    return inspect(dataset, number)


@pytest.mark.parametrize(
    ("inspector", "kind", "timeout_s"), [(die, "reader died", 300), (hang, "timed out", 5)]
)
def test_a_file_that_takes_its_reader_down_costs_one_episode(
    raw_tree, inspector, kind, timeout_s, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(Path.cwd())]))
    data = open_dataset(raw_tree)
    findings = sorted(scan(data, inspector, range(3), 2, timeout_s), key=lambda f: f.index)
    assert [finding.is_usable for finding in findings] == [True, False, True]
    assert findings[1].defects[0].kind == kind
    assert findings[1].name == "LAB/success/2024-05-01/run_1"


def damage(path, rng):
    """Do to a file what disks, networks and people do."""
    content = bytearray(path.read_bytes())
    match rng.integers(5):
        case 0:
            path.unlink()
            return
        case 1:
            content = content[: rng.integers(len(content) + 1)]
        case 2:
            content = bytearray(rng.bytes(int(rng.integers(200))))
        case 3:
            for place in rng.integers(0, max(1, len(content)), 20):
                content[place : place + 1] = rng.bytes(1)
        case 4:
            start = int(rng.integers(len(content) + 1))
            content[start : start + 64] = rng.bytes(64)
    path.write_bytes(content)


def test_damaged_folders_never_stop_the_indexer(raw_folder, tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "damaged"
    for number in range(120):
        folder = shutil.copytree(raw_folder, root / f"run_{number:03d}")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for place in rng.choice(len(files), 1 + number % 2, replace=False):
            damage(files[place], rng)
    (root / "run_000" / "trajectory.h5").unlink(missing_ok=True)
    (root / "run_000" / "trajectory.h5").mkdir()
    data = open_dataset(root)
    findings = [inspect_frames(data, number) for number in range(len(data))]
    assert len(findings) == 120
    assert all(isinstance(finding, Finding) for finding in findings)
    bad = [finding for finding in findings if not finding.is_usable]
    assert len(bad) > 60
    assert all(str(finding.defects[0]).count(":") >= 1 for finding in bad)
