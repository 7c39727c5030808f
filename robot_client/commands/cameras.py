"""`robot-client cameras`: which cameras there are, and a look through one."""

import argparse
from pathlib import Path

from robot_client.cameras.settings import load_camera_settings
from robot_client.cameras.sources import SOURCES, list_cameras, open_source
from robot_client.commands import equipment
from robot_client.exits import DONE
from robot_client.recorder import write_png
from robot_client.run import say

NAME = "cameras"
HELP = "list the cameras there are; with --camera, save a picture of one"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    equipment.add_camera(parser)
    parser.add_argument("--output", type=Path, default=Path("camera.png"), help="%(default)s")


def run(options: argparse.Namespace) -> int:
    """List, or look; returns the exit status."""
    if options.camera is None:
        found = list_cameras()
        for entry in found:
            say(f"{entry.source:<24} {entry.name}")
        if not found:
            say("no USB or RealSense camera found")
        say(f"--camera takes {SOURCES}")
        return DONE
    camera = open_source(options.camera, load_camera_settings(options.camera_settings))
    try:
        camera.connect()
        frame = camera.newest(1.0).frame
    finally:
        camera.disconnect()
    write_png(options.output, frame)
    height, width = frame.shape[:2]
    say(f"{width} x {height} px, mean brightness {frame.mean():.0f} of 255: {options.output}")
    return DONE
