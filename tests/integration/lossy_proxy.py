"""A bad network between robot and server: messages are dropped and delayed, and overtake each other.

`python -m tests.integration.lossy_proxy SERVER_ENDPOINT --loss 0.1 --spike-s 0.5`
"""

import argparse
import heapq
import random
import sys
import time
from typing import Any

import zmq

_SPARED = 2  # messages each way that always arrive: the greeting
_SPIKES = 0.1


class Direction:
    """One way of the proxy."""

    def __init__(self, loss: float, spike_s: float, seed: int) -> None:
        self._loss, self._spike_s = loss, spike_s
        self._random = random.Random(seed)
        self._seen = 0
        self._waiting: list[tuple[float, int, list[bytes]]] = []

    def take(self, parts: list[bytes]) -> None:
        self._seen += 1
        if self._seen > _SPARED and self._random.random() < self._loss:
            return
        is_late = self._seen > _SPARED and self._random.random() < _SPIKES
        due = time.monotonic() + (self._spike_s if is_late else 0.0)
        heapq.heappush(self._waiting, (due, self._seen, parts))

    def due(self) -> list[list[bytes]]:
        out = []
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            out.append(heapq.heappop(self._waiting)[2])
        return out


def main() -> None:
    """Relay until killed; the ready line is the endpoint for robots."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--spike-s", type=float, default=0.5)
    options = parser.parse_args()
    context: zmq.Context[Any] = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    port = front.bind_to_random_port("tcp://127.0.0.1")
    back.connect(options.server)
    sys.stdout.write(f"tcp://127.0.0.1:{port}\n")
    sys.stdout.flush()
    there, here = (Direction(options.loss, options.spike_s, seed) for seed in (1, 2))
    robot = b""
    while True:
        if front.poll(2):
            robot, *payload = front.recv_multipart()
            there.take(payload)
        if back.poll(2):
            here.take(back.recv_multipart())
        for parts in there.due():
            back.send_multipart(parts)
        for parts in here.due():
            front.send_multipart([robot, *parts])


if __name__ == "__main__":
    main()
