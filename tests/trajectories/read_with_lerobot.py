"""Read a LeRobot data set with the official `lerobot` package and print what it saw, as JSON.

A program of its own, because it runs in an environment of its own:
`python read_with_lerobot.py DATA_SET`. Knows nothing of this repository.
"""

import json
import sys

import torch


def _import_torchvision():
    """Import it even where it was built for another torch and lacks two operators nobody calls."""
    try:
        import torchvision.io
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.io

        torchvision.operators = library  # as long as the module lives
    return torchvision


class _VideoReader:
    """torchvision's reader, which newer versions lack and lerobot's `pyav` decoder is made for."""

    def __init__(self, path, _stream):
        import av

        self.container = av.open(path)
        self._stream = self.container.streams.video[0]

    def seek(self, time_s, *, keyframes_only):
        self.container.seek(int(time_s / self._stream.time_base), stream=self._stream)

    def __iter__(self):
        for frame in self.container.decode(self._stream):
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            yield {"data": pixels, "pts": float(frame.time)}


def main(root):
    torchvision = _import_torchvision()
    if not hasattr(torchvision.io, "VideoReader"):
        torchvision.io.VideoReader = _VideoReader
        torchvision.set_video_backend = lambda name: None
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = LeRobotDataset("local/check", root=root, video_backend="pyav")
    rows = []
    for index in range(len(data)):
        item = data[index]
        rows.append(
            {
                "episode": int(item["episode_index"]),
                "task": item["task"],
                "pose": item["observation.state.cartesian_position"].tolist(),
                "gripper": float(item["observation.state.gripper_position"]),
                "means": {k: float(item[k].mean()) for k in data.meta.camera_keys},
            }
        )
    json.dump(
        {
            "episodes": data.num_episodes,
            "frames": data.num_frames,
            "fps": data.fps,
            "cameras": data.meta.camera_keys,
            "stats": sorted(data.meta.stats),
            "rows": rows,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1])
