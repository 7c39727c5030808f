"""What stands around the arm: room, table, lights, camera, distractors.

Every function adds to a tree of MJCF elements and knows nothing of the robot.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from simulation.errors import UnsupportedSceneError
from simulation.variation import (
    CAMERA_POSITION_M,
    CAMERA_TARGET_M,
    Distractor,
    WorkcellVariation,
)
from trajectories.poses import euler_to_matrix

CAMERA_NAME = "exterior"

# Collision bits: 1 is what stands on the table, 2 is the gripper; everything else touches nothing.
TOUCHES_NOTHING = {"contype": "0", "conaffinity": "0"}
GRIPPER_CONTACT = {"contype": "2", "conaffinity": "0"}
# Stiffer than MuJoCo's default, in which a held object creeps out of the fingers.
FIRM_CONTACT = {"solref": "0.01 1", "solimp": "0.95 0.99 0.001"}
_TABLE_CONTACT = {"contype": "0", "conaffinity": "3"}


def numbers(*values: float) -> str:
    """Write numbers the way MJCF attributes hold them."""
    return " ".join(f"{value:.6g}" for value in values)


def child(element: ET.Element, path: str) -> ET.Element:
    """Return the element at `path` of franky-sim's scene.

    Raises:
        UnsupportedSceneError: It is not there.
    """
    found = element.find(path)
    if found is None:
        raise UnsupportedSceneError(
            f"franky-sim's scene has no <{path}>; install franky-sim 1.0.4, which this was made for"
        )
    return found


def add_lights(world: ET.Element, variation: WorkcellVariation) -> None:
    """Add a key light from where the variation says and a weak fill light."""
    key = variation.light_intensity
    towards = np.asarray((0.45, 0.0, 0.1)) - np.asarray(variation.light_position_m)
    common = {"type": "directional", "castshadow": "false", "specular": "0.1 0.1 0.1"}
    ET.SubElement(
        world,
        "light",
        common,
        name="key_light",
        pos=numbers(*variation.light_position_m),
        dir=numbers(*towards),
        diffuse=numbers(key, key, key),
    )
    ET.SubElement(
        world,
        "light",
        common,
        name="fill_light",
        pos="2 2 2",
        dir="-1 -1 -1",
        diffuse="0.2 0.2 0.22",
    )


def add_room(scene: ET.Element, world: ET.Element, variation: WorkcellVariation) -> None:
    """Add table (top at z = 0), floor and two walls behind the robot as seen by the camera.

    Every pattern is always part of the scene, used or not, so that all workcells have the same
    list of assets and a renderer can serve them without uploading anything again.
    """
    asset = child(scene, "asset")
    for old in asset.findall("texture") + asset.findall("material"):
        asset.remove(old)
    _add_patterns(asset)
    _add_table(asset, world, variation)
    surroundings = numbers(*variation.floor_rgb, 1.0), numbers(*variation.wall_rgb, 1.0)
    _add_floor_and_walls(world, *surroundings)


def _add_patterns(asset: ET.Element) -> None:
    patterns = {
        "plain": {"builtin": "flat"},
        "checker": {"builtin": "checker"},
        "tiles": {"builtin": "flat", "mark": "edge", "markrgb": "0.7 0.7 0.7"},
        "crosses": {"builtin": "flat", "mark": "cross", "markrgb": "0.75 0.75 0.75"},
    }
    common = {
        "type": "2d",
        "rgb1": "1 1 1",
        "rgb2": "0.78 0.78 0.78",
        "width": "64",
        "height": "64",
    }
    for name, look in patterns.items():
        ET.SubElement(asset, "texture", {**look, **common}, name=name)


def _add_table(asset: ET.Element, world: ET.Element, variation: WorkcellVariation) -> None:
    ET.SubElement(
        asset,
        "material",
        name="table",
        texture=variation.table_pattern,
        rgba=numbers(*variation.table_rgb, 1.0),
        texrepeat="6 6",
        texuniform="true",
        specular="0.1",
    )
    ET.SubElement(
        world,
        "geom",
        _TABLE_CONTACT,
        name="table",
        type="box",
        pos="0.35 0 -0.02",
        size="0.6 0.65 0.02",
        material="table",
        friction="0.8 0.01 0.001",
    )


def _add_floor_and_walls(world: ET.Element, floor_rgba: str, wall_rgba: str) -> None:
    floor = {"name": "floor", "type": "plane", "pos": "0 0 -0.7", "size": "4 4 0.1"}
    ET.SubElement(world, "geom", {**_TABLE_CONTACT, **floor}, rgba=floor_rgba)
    for name, position, size in (
        ("wall_back", "-1.2 0 0.8", "0.02 4 1.5"),
        ("wall_side", "0 -1.6 0.8", "4 0.02 1.5"),
    ):
        wall = {"name": name, "type": "box", "pos": position, "size": size}
        ET.SubElement(world, "geom", {**TOUCHES_NOTHING, **wall}, rgba=wall_rgba)


def add_distractor(world: ET.Element, index: int, distractor: Distractor) -> None:
    """Add a fixed body that nothing can touch."""
    size = distractor.size_m
    extent = {
        "box": numbers(size, 0.8 * size, size),
        "cylinder": numbers(0.7 * size, size),
        "sphere": numbers(size),
    }[distractor.shape]
    ET.SubElement(
        world,
        "geom",
        TOUCHES_NOTHING,
        name=f"distractor{index}",
        type=distractor.shape,
        size=extent,
        pos=numbers(*distractor.position_m, size),
        euler=numbers(0, 0, distractor.yaw_rad),
        rgba=numbers(*distractor.rgb, 1.0),
    )


def add_camera(world: ET.Element, variation: WorkcellVariation) -> None:
    """Add the exterior camera, looking across the table at the gripper."""
    target = np.add(CAMERA_TARGET_M, variation.camera_aim_offset_m)
    turn = euler_to_matrix(np.array([0.0, 0.0, variation.camera_yaw_rad]))
    away = turn @ (np.add(CAMERA_POSITION_M, variation.camera_offset_m) - target)
    position, backward = target + away, away / np.linalg.norm(away)
    right = np.cross((0.0, 0.0, 1.0), backward)
    right /= np.linalg.norm(right)
    up = np.cross(backward, right)
    ET.SubElement(
        world,
        "camera",
        name=CAMERA_NAME,
        pos=numbers(*position),
        xyaxes=numbers(*right, *up),
        fovy=numbers(variation.camera_fovy_deg),
    )
