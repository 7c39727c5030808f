"""The movable objects: what they measure, where the fingers hold them, and their MJCF shapes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np

from simulation.furnishing import FIRM_CONTACT, TOUCHES_NOTHING, numbers
from simulation.variation import ObjectKind, WorkcellVariation

OBJECT_BODY = "object"
OBJECT_JOINT = "object_free"
OBJECT_SHAPE = "object_shape"
_MASS_KG = 0.08

# Collision bits, see furnishing: 1 touches the table, 2 is the gripper.
_ANYTHING = {"contype": "1", "conaffinity": "2"}
_TABLE_ONLY = {"contype": "1", "conaffinity": "0"}
_GRIPPER_ONLY = {"contype": "0", "conaffinity": "2"}
# The sixth contact dimension lets what has fallen over roll to rest.
_SURFACE = {**FIRM_CONTACT, "condim": "6", "friction": "1.0 0.02 0.002"}

_SHOULDER_SHARE = 0.7  # of a bottle's height, where the neck begins
_NECK_SHARE = 0.45  # of a bottle's radius


@dataclass(frozen=True)
class Measures:
    """An object as it stands on the table at heading 0.

    Attributes:
        size_m: Extent along x, y and z; the fingers close along y.
        grip_share: How high they close, as a share of the height.
        is_round: Turning it about the vertical changes nothing.
    """

    size_m: tuple[float, float, float]
    grip_share: float
    is_round: bool


_NOMINAL: dict[ObjectKind, Measures] = {
    "cube": Measures((0.05, 0.05, 0.05), 0.5, is_round=False),
    "cup": Measures((0.054, 0.054, 0.08), 0.6, is_round=True),
    "box": Measures((0.06, 0.042, 0.09), 0.6, is_round=False),
    "bottle": Measures((0.046, 0.046, 0.11), 0.6, is_round=True),
}


def measures(variation: WorkcellVariation) -> Measures:
    """Return what the variation's object measures."""
    nominal = _NOMINAL[variation.object_kind]
    x, y, z = (variation.object_scale * extent for extent in nominal.size_m)
    return Measures((x, y, z), nominal.grip_share, nominal.is_round)


def add_object(world: ET.Element, variation: WorkcellVariation) -> None:
    """Add the movable object, free to move, standing on the table."""
    measured = measures(variation)
    x, y = variation.object_position_m
    # A round object shows no heading, but its unseen sides must face the fingers.
    yaw_rad = 0.0 if measured.is_round else variation.object_yaw_rad
    position, euler = numbers(x, y, measured.size_m[2] / 2), numbers(0, 0, yaw_rad)
    body = ET.SubElement(world, "body", name=OBJECT_BODY, pos=position, euler=euler)
    ET.SubElement(body, "freejoint", name=OBJECT_JOINT)
    rgba = numbers(*variation.object_rgb, 1.0)
    if not measured.is_round:
        half = numbers(*(extent / 2 for extent in measured.size_m))
        _add_shape(body, OBJECT_SHAPE, "box", half, _ANYTHING, rgba=rgba, mass=str(_MASS_KG))
        return
    radius, half_height = measured.size_m[1] / 2, measured.size_m[2] / 2
    _add_gripped_sides(body, radius, half_height)
    if variation.object_kind == "cup":
        _add_cup(body, radius, half_height, rgba)
    else:
        _add_bottle(body, radius, half_height, rgba)


def _add_cup(body: ET.Element, radius: float, half_height: float, rgba: str) -> None:
    size = numbers(radius, half_height)
    _add_shape(body, OBJECT_SHAPE, "cylinder", size, _TABLE_ONLY, rgba=rgba, mass=str(_MASS_KG))
    # A dark disc on top reads as the cup's mouth and costs no contact.
    disc, top = numbers(0.82 * radius, 0.0006), numbers(0, 0, half_height)
    dark = "0.1 0.1 0.1 1"
    _add_shape(body, "object_mouth", "cylinder", disc, TOUCHES_NOTHING, rgba=dark, pos=top)


def _add_bottle(body: ET.Element, radius: float, half_height: float, rgba: str) -> None:
    shoulder = (2 * _SHOULDER_SHARE - 1) * half_height
    parts = (
        (OBJECT_SHAPE, radius, -half_height, shoulder, rgba, str(_MASS_KG)),
        ("object_neck", _NECK_SHARE * radius, shoulder, half_height, "0.92 0.92 0.9 1", "0"),
    )
    for name, part_radius, low, high, colour, mass in parts:
        size, centre = numbers(part_radius, (high - low) / 2), numbers(0, 0, (high + low) / 2)
        _add_shape(body, name, "cylinder", size, _TABLE_ONLY, rgba=colour, mass=mass, pos=centre)


def _add_gripped_sides(body: ET.Element, radius: float, half_height: float) -> None:
    """Add an unseen octagon for the fingers to hold.

    Flat pads on a round wall meet in one or two points, and the physics squeezes the object out
    when it is lifted; on an octagon's sides they rest on a face.
    """
    size = numbers(radius, np.tan(np.pi / 8) * radius, half_height)
    for side in range(4):
        turned = numbers(0, 0, side * np.pi / 4)
        _add_shape(body, f"object_side{side}", "box", size, _GRIPPER_ONLY, group="3", euler=turned)


def _add_shape(
    body: ET.Element, name: str, kind: str, size: str, touches: dict[str, str], **look: str
) -> None:
    """Add one shape; `look` holds further MJCF attributes, and the mass where it has one."""
    attributes = {**touches, **_SURFACE, "mass": "0", **look}
    ET.SubElement(body, "geom", attributes, name=name, type=kind, size=size)
