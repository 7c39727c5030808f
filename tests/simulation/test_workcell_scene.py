import xml.etree.ElementTree as ET
from pathlib import Path

import franky_sim
import mujoco
import numpy as np
import pinocchio
import pytest

from simulation.errors import UnsupportedSceneError
from simulation.kinematics import HOME_JOINTS_RAD, FlangeKinematics, flange_pose_at
from simulation.rendering import thread_renderer
from simulation.stepper import OfflineWorkcell
from simulation.variation import sample_variation
from simulation.workcell import build_simulator, dress, scene_xml


def test_the_live_simulator_compiles_the_very_text_of_the_offline_one():
    variation = sample_variation(3)
    live = build_simulator(variation, HOME_JOINTS_RAD)
    assert ET.tostring(live.scene, encoding="unicode") == scene_xml(variation)


def test_live_and_offline_frames_of_the_same_state_are_equal():
    variation = sample_variation(5)
    offline = OfflineWorkcell(variation)
    offline.reset(flange_pose_at(np.array([0.45, 0.1, 0.2]), 0.3))
    live = build_simulator(variation, HOME_JOINTS_RAD)
    with live:
        live.start()
        data = mujoco.MjData(live.model)
        data.qpos[:] = offline.data.qpos
        mujoco.mj_forward(live.model, data)
        frame = thread_renderer().render(live.model, data)
    np.testing.assert_array_equal(frame, offline.render())


def test_flange_is_link8_of_the_manufacturers_description(workcell):
    urdf = Path(franky_sim.__file__).parent / "assets" / "fr3.urdf"
    model = pinocchio.buildModelFromUrdf(str(urdf))
    data, link8 = model.createData(), model.getFrameId("fr3_link8")
    kinematics = FlangeKinematics(workcell.model)
    rng = np.random.default_rng(0)
    for _ in range(50):
        joints = HOME_JOINTS_RAD + rng.uniform(-0.5, 0.5, 7)
        pinocchio.framesForwardKinematics(model, data, np.concatenate([joints, [0.0, 0.0]]))
        position, rotation = kinematics.forward(joints)
        np.testing.assert_allclose(position, data.oMf[link8].translation, atol=1e-5)
        np.testing.assert_allclose(rotation, data.oMf[link8].rotation, atol=1e-5)


def test_all_workcells_share_one_list_of_meshes_and_textures():
    models = [mujoco.MjModel.from_xml_string(scene_xml(sample_variation(s))) for s in range(6)]
    assert len({model.tex_data.tobytes() for model in models}) == 1
    assert len({model.mesh_vert.tobytes() for model in models}) == 1


def test_an_unknown_scene_is_refused():
    with pytest.raises(UnsupportedSceneError, match=r"franky-sim 1\.0\.4"):
        dress(ET.Element("mujoco"), sample_variation(0))
