"""`robot-client crop-preview`: what the model will see of the camera's picture."""

import argparse
from pathlib import Path

from robot_client.cameras.crop import Geometry, preview
from robot_client.cameras.settings import load_camera_settings
from robot_client.cameras.sources import open_source
from robot_client.commands import equipment
from robot_client.errors import RobotClientError
from robot_client.exits import DONE
from robot_client.recorder import write_png
from robot_client.rest import DEFAULT_URL, RestClient
from robot_client.run import say

NAME = "crop-preview"
HELP = "save the camera's picture with the crop drawn in, beside what the model sees of it"

_GEOMETRIES: tuple[Geometry, ...] = ("centre_square", "squash_1_35")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    equipment.add_camera(parser)
    add = parser.add_argument
    add("--http", default=DEFAULT_URL, help="planner server to ask for the model (%(default)s)")
    add("--token", help="the server's PLANNER_TOKEN, where it has one")
    add("--size", type=int, help="side the model sees [px]; default: ask the server")
    add("--geometry", choices=_GEOMETRIES, help="default: ask the server")
    add("--output", type=Path, default=Path("crop.png"), help="%(default)s")


def run(options: argparse.Namespace) -> int:
    """Look and draw; returns the exit status."""
    size, geometry = _geometry(options)
    source = options.camera or "device:0"
    camera = open_source(source, load_camera_settings(options.camera_settings))
    try:
        camera.connect()
        frame = camera.newest(1.0).frame
    finally:
        camera.disconnect()
    write_png(options.output, preview(frame, size, geometry))
    say(f"{size[1]} x {size[0]} px by {geometry}: {options.output}")
    return DONE


def _geometry(options: argparse.Namespace) -> tuple[tuple[int, int], Geometry]:
    if options.size is not None:
        return (options.size, options.size), options.geometry or _GEOMETRIES[0]
    try:
        card = RestClient(options.http, options.token, timeout_s=3.0).model()
    except RobotClientError as error:
        raise RobotClientError(f"{error} Or give --size and --geometry.") from error
    height, width = card["frame_size"]
    known = [name for name in _GEOMETRIES if name == card.get("frame_geometry")]
    return (int(height), int(width)), options.geometry or (known or _GEOMETRIES)[0]
