"""The FR3 workcell as a MuJoCo scene: franky-sim's arm, dressed with a table and an object.

The same tree serves franky-sim's real-time server and the offline stepper, so that both see the
same masses, contacts, colours and camera. Only what the two steppers must do differently (time
step, gravity compensation, actuator gains) is set on the compiled model by each of them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
from franky_sim.mujoco_simulator import MUJOCO_DEFAULT_KP, MujocoSimulator
from numpy.typing import NDArray

from simulation.furnishing import (
    FIRM_CONTACT,
    GRIPPER_CONTACT,
    TOUCHES_NOTHING,
    add_camera,
    add_distractor,
    add_lights,
    add_room,
    child,
    numbers,
)
from simulation.movables import add_object
from simulation.variation import Rgb, WorkcellVariation

PREFIX = "robot0_"  # franky-sim's prefix for the first robot
FLANGE_SITE = "flange"
FLANGE_OFFSET_M = 0.107  # link7 to link8 along z (fr3.urdf)

SERVO_DAMPING_S = 0.045  # damping over stiffness of every joint's servo, in both steppers

_KEPT_MESHES = {*(f"link{i}_coll" for i in range(8)), "hand_coll", "finger_0"}
_DARK: Rgb = (0.16, 0.16, 0.17)


def build_simulator(
    variation: WorkcellVariation,
    joints_rad: NDArray[np.float64],
    hand_width_m: float = 0.08,
) -> MujocoSimulator:
    """Make franky-sim's simulator of the dressed workcell, not yet started.

    Args:
        variation: The workcell.
        joints_rad: Joint angles `[7]` at the start.
        hand_width_m: Opening of the gripper at the start.
    """
    simulator = MujocoSimulator()
    robot = simulator.add_robot(
        initial_q=tuple(joints_rad.tolist()),
        initial_hand_width=hand_width_m,
        kv=tuple(SERVO_DAMPING_S * stiffness for stiffness in MUJOCO_DEFAULT_KP),
    )
    measure = robot.kinematics
    # franky-sim 1.0.4 returns a reference into its scratch memory, which the inverse kinematics
    # overwrites with the commanded pose before it is sent as the measured one.
    robot.kinematics = lambda joints: measure(joints).copy()
    dress(simulator.scene, variation)
    return simulator


def scene_xml(variation: WorkcellVariation) -> str:
    """Return the MJCF text of the dressed workcell, the very text the live simulator compiles."""
    simulator = MujocoSimulator()
    simulator.add_robot()
    dress(simulator.scene, variation)
    return ET.tostring(simulator.scene, encoding="unicode")


def dress(scene: ET.Element, variation: WorkcellVariation) -> None:
    """Turn franky-sim's bare scene into the workcell, in place."""
    _simplify_robot(scene, variation)
    _set_options(scene, variation)
    world = child(scene, "worldbody")
    for bare in [element for element in world if element.tag in ("geom", "light")]:
        world.remove(bare)
    add_lights(world, variation)
    add_room(scene, world, variation)
    add_object(world, variation)
    for index, distractor in enumerate(variation.distractors):
        add_distractor(world, index, distractor)
    add_camera(world, variation)


def _set_options(scene: ET.Element, variation: WorkcellVariation) -> None:
    option = child(scene, "option")
    # The elliptic cone with a stiff tangential part keeps a grasped object from creeping.
    option.attrib.update(cone="elliptic", impratio="10")
    quality = child(scene, "visual/quality")
    quality.attrib.update(offsamples="0", shadowsize="0")
    ambient = variation.ambient
    child(scene, "visual/headlight").attrib.update(
        ambient=numbers(ambient, ambient, ambient), diffuse="0.15 0.15 0.15"
    )
    ET.SubElement(child(scene, "visual"), "map", znear="0.02", zfar="20")


def _simplify_robot(scene: ET.Element, variation: WorkcellVariation) -> None:
    """Show the collision meshes instead of the visual ones: the same outline at 1/20 the cost."""
    asset = child(scene, "asset")
    for mesh in asset.findall("mesh"):
        if mesh.get("name") not in _KEPT_MESHES:
            asset.remove(mesh)
    for body in child(scene, "worldbody").iter("body"):
        if body.find("inertial") is not None:
            body.set("gravcomp", "1")
        for geom in body.findall("geom"):
            if geom.get("class") == "visual":
                body.remove(geom)
            else:
                _restyle(geom, variation)
        if body.get("name") == f"{PREFIX}fr3_link7":
            ET.SubElement(body, "site", name=FLANGE_SITE, pos=f"0 0 {FLANGE_OFFSET_M}")
    for joint in ("finger_joint1", "finger_joint2"):
        finger = child(scene, f".//joint[@name='{PREFIX}{joint}']")
        finger.set("frictionloss", "0.2")


def _restyle(geom: ET.Element, variation: WorkcellVariation) -> None:
    """Colour a collision shape; only hand and finger pads may touch anything.

    The arm's links touch nothing, which keeps a step cheap; the hand is always lower.
    """
    mesh = geom.get("mesh", "")
    geom.set("group", "0")
    is_pad = not mesh
    dark = is_pad or mesh in ("finger_0", "link6_coll")
    geom.set("rgba", numbers(*(_DARK if dark else variation.robot_rgb), 1.0))
    if is_pad:
        geom.attrib.update(GRIPPER_CONTACT, **FIRM_CONTACT, condim="4", friction="1.2 0.02 0.001")
    else:
        geom.attrib.update(GRIPPER_CONTACT if mesh == "hand_coll" else TOUCHES_NOTHING)
