"""A planner server in a process of its own that answers as it is told, for the tests of faults.

`python -m tests.integration.scripted_server --zmq PORT --http PORT --fault none`
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from robot_client.protocol import Observe
from tests.robot_client.conftest import StandIn

Send = Callable[[bytes], None]

STEP_M = 0.03
PERIOD_S = 0.5


def main() -> None:
    """Serve until killed; the ready line says where."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--zmq", type=int, default=0)
    parser.add_argument("--http", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--listen", default="127.0.0.1")
    options = parser.parse_args()
    server = StandIn(options.zmq, options.http, options.listen)
    server.control_period_s = PERIOD_S
    server.on_observe = FAULTS[options.fault](server)
    sys.stdout.write(f"{server.endpoint} {server.url}\n")
    sys.stdout.flush()
    while True:
        time.sleep(1.0)


def plan(server: StandIn, observe: Observe) -> np.ndarray:
    """To and fro along y, so that an arm that follows never leaves its workspace."""
    direction = 1.0 if observe.seq % 2 else -1.0
    return np.array([[0, direction * STEP_M, 0, 0, 0, 0, 0]])


def honest(server: StandIn) -> Callable[[Observe, Send], None]:
    return lambda observe, send: send(server.act(observe, actions=plan(server, observe)).encode())


def late(server: StandIn) -> Callable[[Observe, Send], None]:
    def answer(observe: Observe, send: Send) -> None:
        time.sleep(1.5 * PERIOD_S)
        honest(server)(observe, send)

    return answer


def garbage(server: StandIn) -> Callable[[Observe, Send], None]:
    rng = np.random.default_rng(0)
    return lambda observe, send: send(rng.bytes(200))


def foreign(server: StandIn) -> Callable[[Observe, Send], None]:
    def answer(observe: Observe, send: Send) -> None:
        actions = plan(server, observe)
        send(server.act(observe, actions=actions, session="somebody-else").encode())

    return answer


def outdated(server: StandIn) -> Callable[[Observe, Send], None]:
    def answer(observe: Observe, send: Send) -> None:
        actions = plan(server, observe)
        for seq in (observe.seq - 1, observe.seq + 5):
            send(server.act(observe, actions=actions, seq=max(seq, 0)).encode())

    return answer


FAULTS: dict[str, Callable[[StandIn], Callable[[Observe, Send], None]]] = {
    "none": honest,
    "late": late,
    "garbage": garbage,
    "foreign": foreign,
    "outdated": outdated,
}

if __name__ == "__main__":
    main()
