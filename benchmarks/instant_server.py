"""A planner server without a model: it answers at once, so that what is measured is the client.

`python -m benchmarks.instant_server --period 0.2 --step 0.05` prints its two addresses and serves
until it is ended. Plans go to and fro along y.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import zmq

from robot_client import protocol
from robot_client.protocol import Act, ActionLimits, Hello, Observe, Ping, Pong, Welcome


class Handler(BaseHTTPRequestHandler):
    """As much of the HTTP API as a run needs; goal images are thrown away."""

    def do_POST(self) -> None:
        """Make a session."""
        self._reply({"id": "bench"})

    def do_PUT(self) -> None:
        """Take goals."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._reply({"goals": []})

    def do_GET(self) -> None:
        """Be ready."""
        self._reply({"name": "instant", "frame_size": [128, 128]})

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def _reply(self, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def answer(message: protocol.Message, period_s: float, step_m: float) -> protocol.Message | None:
    """The reply to one message."""
    if isinstance(message, Ping):
        return Pong(t=message.t)
    if isinstance(message, Hello):
        limits = ActionLimits(0.15, 0.0, 1.0)
        session = message.session or "bench"
        return Welcome(1, "instant", session, "instant", (128, 128), period_s, limits)
    if not isinstance(message, Observe):
        return None
    action = np.zeros((1, 7))
    action[0, 1] = step_m if message.seq % 2 else -step_m
    reached = message.state + action
    return Act(
        message.session, message.seq, action, reached, 0.5, 0.5, 0.0, 0.0, 0.0, 1,
        message.goal_index or 0,
    )  # fmt: skip


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--period", type=float, default=0.2, help="control period [s]")
    parser.add_argument("--step", type=float, default=0.05, help="length of a step [m]")
    options = parser.parse_args()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    socket = zmq.Context.instance().socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    sys.stdout.write(f"tcp://127.0.0.1:{port} http://127.0.0.1:{http.server_port}\n")
    sys.stdout.flush()
    while True:
        peer, payload = socket.recv_multipart()
        reply = answer(protocol.decode(payload), options.period, options.step)
        if reply is not None:
            socket.send_multipart([peer, reply.encode()])


if __name__ == "__main__":
    main()
