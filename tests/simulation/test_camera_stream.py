import msgpack
import numpy as np
import pytest
import zmq

from robot_client.cameras.simulated import decode_frame
from simulation import camera_stream
from simulation.camera_stream import CameraFrame, CameraStream, bind
from simulation.errors import RenderingError, ServerStartError

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


def test_a_camera_without_opengl_does_not_begin_and_says_why(monkeypatch, caplog, wait_until_free):
    def unusable():
        raise RenderingError("OpenGL is unusable")

    monkeypatch.setattr(camera_stream, "FrameRenderer", unusable)
    stream = CameraStream(None, lambda: None, "tcp://127.0.0.1:*", 10.0)
    with pytest.raises(RenderingError, match="unusable"):
        stream.start()
    stream.stop()
    assert "the camera has stopped" in caplog.text
    wait_until_free(stream.endpoint)
