"""What stands around the arm: room, table, lights, camera, the movable object, distractors.

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

CAMERA_NAME = "exterior"
OBJECT_BODY = "object"
OBJECT_JOINT = "object_free"
OBJECT_SHAPE = "object_shape"
CUBE_SIZE_M = 0.05
CUP_RADIUS_M = 0.027
CUP_HEIGHT_M = 0.08
_OBJECT_MASS_KG = 0.08

# Collision bits: 1 is what stands on the table, 2 is the gripper; everything else touches nothing.
TOUCHES_NOTHING = {"contype": "0", "conaffinity": "0"}
GRIPPER_CONTACT = {"contype": "2", "conaffinity": "0"}
# Stiffer than MuJoCo's default, in which a held object creeps out of the fingers.
FIRM_CONTACT = {"solref": "0.01 1", "solimp": "0.95 0.99 0.001"}
_OBJECT_CONTACT = {"contype": "1", "conaffinity": "2"}
_TABLE_ONLY = {"contype": "1", "conaffinity": "0"}
_GRIPPER_ONLY = {"contype": "0", "conaffinity": "2"}
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


def object_height_m(variation: WorkcellVariation) -> float:
    """Height of the movable object; it stands on the table with its centre at half of this."""
    nominal = CUBE_SIZE_M if variation.object_kind == "cube" else CUP_HEIGHT_M
    return nominal * variation.object_scale


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
    patterns = {
        "plain": {"builtin": "flat"},
        "checker": {"builtin": "checker"},
        "tiles": {"builtin": "flat", "mark": "edge", "markrgb": "0.7 0.7 0.7"},
        "crosses": {"builtin": "flat", "mark": "cross", "markrgb": "0.75 0.75 0.75"},
    }
    for name, look in patterns.items():
        ET.SubElement(
            asset,
            "texture",
            look,
            name=name,
            type="2d",
            rgb1="1 1 1",
            rgb2="0.78 0.78 0.78",
            width="64",
            height="64",
        )
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
    ET.SubElement(
        world,
        "geom",
        _TABLE_CONTACT,
        name="floor",
        type="plane",
        pos="0 0 -0.7",
        size="4 4 0.1",
        rgba=numbers(*variation.floor_rgb, 1.0),
    )
    for name, position, size in (
        ("wall_back", "-1.2 0 0.8", "0.02 4 1.5"),
        ("wall_side", "0 -1.6 0.8", "4 0.02 1.5"),
    ):
        ET.SubElement(
            world,
            "geom",
            TOUCHES_NOTHING,
            name=name,
            type="box",
            pos=position,
            size=size,
            rgba=numbers(*variation.wall_rgb, 1.0),
        )


def add_object(world: ET.Element, variation: WorkcellVariation) -> None:
    """Add the movable object, free to move, standing on the table."""
    x, y = variation.object_position_m
    half_height = object_height_m(variation) / 2
    # A round cup shows no heading, but its unseen sides must face the fingers.
    yaw = variation.object_yaw_rad if variation.object_kind == "cube" else 0.0
    body = ET.SubElement(
        world,
        "body",
        name=OBJECT_BODY,
        pos=numbers(x, y, half_height),
        euler=numbers(0, 0, yaw),
    )
    ET.SubElement(body, "freejoint", name=OBJECT_JOINT)
    friction = {**FIRM_CONTACT, "condim": "4", "friction": "1.0 0.02 0.001"}
    rgba = numbers(*variation.object_rgb, 1.0)
    if variation.object_kind == "cube":
        ET.SubElement(
            body,
            "geom",
            _OBJECT_CONTACT,
            **friction,
            name=OBJECT_SHAPE,
            type="box",
            mass=str(_OBJECT_MASS_KG),
            size=numbers(half_height, half_height, half_height),
            rgba=rgba,
        )
    else:
        _add_cup_shapes(body, CUP_RADIUS_M * variation.object_scale, half_height, rgba, friction)


def _add_cup_shapes(
    body: ET.Element, radius: float, half_height: float, rgba: str, friction: dict[str, str]
) -> None:
    """Add a cylinder that stands on the table and an unseen octagon for the fingers to hold.

    Flat pads on a round wall meet in one or two points, and the physics squeezes the cup out when
    it is lifted; on an octagon's sides they rest on a face.
    """
    ET.SubElement(
        body,
        "geom",
        _TABLE_ONLY,
        **friction,
        name=OBJECT_SHAPE,
        type="cylinder",
        mass=str(_OBJECT_MASS_KG),
        size=numbers(radius, half_height),
        rgba=rgba,
    )
    for side in range(4):
        ET.SubElement(
            body,
            "geom",
            _GRIPPER_ONLY,
            **friction,
            name=f"object_side{side}",
            type="box",
            mass="0",
            group="3",
            euler=numbers(0, 0, side * np.pi / 4),
            size=numbers(radius, np.tan(np.pi / 8) * radius, half_height),
        )
    ET.SubElement(  # a dark disc on top reads as the cup's mouth and costs no contact
        body,
        "geom",
        TOUCHES_NOTHING,
        name="object_mouth",
        type="cylinder",
        mass="0",
        size=numbers(0.82 * radius, 0.0006),
        pos=numbers(0, 0, half_height),
        rgba="0.1 0.1 0.1 1",
    )


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
    position = np.add(CAMERA_POSITION_M, variation.camera_offset_m)
    backward = position - np.add(CAMERA_TARGET_M, variation.camera_aim_offset_m)
    backward /= np.linalg.norm(backward)
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
