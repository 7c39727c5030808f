import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from simulation.camera_stream import CameraFrame, bind
from simulation.errors import ServerStartError, SimulationError

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
FRAME = CameraFrame(7, 12.5, 1700000000.25, IMAGE)


def test_a_frame_survives_the_wire():
    decoded = CameraFrame.decode(FRAME.encode())
    assert (decoded.sequence, decoded.t_monotonic_s, decoded.t_wall_s) == (7, 12.5, 1700000000.25)
    np.testing.assert_array_equal(decoded.image, IMAGE)


def test_the_message_holds_the_picture_and_its_time_and_no_truth():
    fields = msgpack.unpackb(FRAME.encode())
    names = {"version", "sequence", "t_monotonic_s", "t_wall_s", "height", "width", "rgb"}
    assert set(fields) == names


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_the_packages_own_error(message):
    with pytest.raises(SimulationError):
        CameraFrame.decode(message)


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"height": 5}, {"width": 10**6}, {"rgb": "text"}, {"sequence": None}]
)
def test_a_message_that_contradicts_itself_is_refused(change):
    fields = msgpack.unpackb(FRAME.encode()) | change
    with pytest.raises(SimulationError):
        CameraFrame.decode(msgpack.packb(fields))


def test_what_is_too_long_for_a_request_never_arrives():
    listener = bind(zmq.REP, "tcp://127.0.0.1:*")
    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        asking.connect(listener.getsockopt_string(zmq.LAST_ENDPOINT))
        asking.send(bytes(5000))
        assert not listener.poll(300)
    listener.close(linger=0)


def test_a_taken_endpoint_is_refused_with_the_remedy():
    first = bind(zmq.PUB, "tcp://127.0.0.1:*")
    endpoint = first.getsockopt_string(zmq.LAST_ENDPOINT)
    with pytest.raises(ServerStartError, match="another port"):
        bind(zmq.PUB, endpoint)
    first.close(linger=0)
