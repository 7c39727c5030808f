"""The supervisor's door, asked over its socket what nobody should ask."""

import msgpack
import pytest
import zmq

from simulation.supervisor import Supervisor
from simulation.tasks import make_task


@pytest.fixture
def ask():
    """Ask a supervisor whose workcell is not running."""
    door = Supervisor("tcp://127.0.0.1:*", make_task("reach", 0), lambda: None, lambda: None)
    door.start()
    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        asking.setsockopt(zmq.RCVTIMEO, 10_000)
        asking.connect(door.endpoint)

        def ask(message):
            asking.send(message)
            return msgpack.unpackb(asking.recv())

        yield ask
    door.stop()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "send a map with type"),
        (b"\xc1", "send a map with type"),
        (msgpack.packb([1, 2]), "send a map with type"),
        (msgpack.packb({"kind": "task"}), "send a map with type"),
        (msgpack.packb({"type": "dance"}), "there are task, truth, shutdown"),
        (msgpack.packb({"type": ["task"]}), "there are task, truth, shutdown"),
    ],
)
def test_what_is_no_request_is_answered_and_the_next_one_too(ask, message, said):
    answer = ask(message)
    assert answer["type"] == "error"
    assert said in answer["message"]
    assert ask(msgpack.packb({"type": "task"}))["name"] == "reach"
