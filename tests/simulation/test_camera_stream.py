import msgpack
import numpy as np
import pytest
import zmq

from robot_client.cameras.simulated import decode_frame
from simulation.camera_stream import CameraFrame, bind
from simulation.errors import ServerStartError

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
FRAME = CameraFrame(7, 12.5, 1700000000.25, IMAGE)


def test_a_frame_survives_the_wire():
    decoded = decode_frame(FRAME.encode())
    np.testing.assert_array_equal(decoded.frame, IMAGE)


def test_the_message_holds_the_picture_and_its_time_and_no_truth():
    fields = msgpack.unpackb(FRAME.encode())
    names = {"version", "sequence", "t_monotonic_s", "t_wall_s", "height", "width", "rgb"}
    assert set(fields) == names


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
