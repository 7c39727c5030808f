"""Robots that look at a steady rate, whatever came of the look before, and note when they looked and were answered."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from typing_extensions import Self

from benchmarks.page_scene import ServerAddress
from robot_client import codec
from robot_client.protocol import Act, Hello, Observe, Welcome, decode
from robot_client.rest import RestClient, SessionOptions

_FRAME_PX = 256
_PICTURES = 16  # so that no frame equals the one before
_STATE = (0.5, 0.0, 0.35, 3.1416, 0.0, 0.0, 0.0)
_POLL_MS = 2


class PacedRobots:
    """Robots that drive in a thread of this process.

    Args:
        server: Who plans.
        count: How many.
        rate_hz: Looks per second of each.

    Attributes:
        sessions: Their sessions.
        looked_s: When each observation was sent, by session and seq [s since 1970].
        planned_s: When its plan arrived [s since 1970].
    """

    def __init__(self, server: ServerAddress, count: int, rate_hz: float) -> None:
        self._server, self._rate_hz = server, rate_hz
        self._context: zmq.Context[Any] = zmq.Context()
        self._ending = threading.Event()
        self._pictures = [
            codec.encode_image(picture(seed), "jpeg").data for seed in range(_PICTURES)
        ]
        self._sockets = dict(self._join() for _ in range(count))
        self.sessions = list(self._sockets)
        self.looked_s: dict[tuple[str, int], float] = {}
        self.planned_s: dict[tuple[str, int], float] = {}
        self._thread = threading.Thread(target=self._drive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        rest = RestClient(self._server.url)
        for session in self.sessions:
            rest.delete_session(session)
        self._context.destroy(linger=0)

    def _join(self) -> tuple[str, Any]:
        rest = RestClient(self._server.url)
        session = rest.create_session(SessionOptions())
        rest.put_goals(session, [codec.encode_image(picture(99), "png").data])
        socket = self._context.socket(zmq.DEALER)
        socket.connect(self._server.zmq)
        socket.send(Hello(1, "benchmark", session=session).encode())
        assert socket.poll(30_000), "no welcome"
        assert isinstance(decode(socket.recv()), Welcome)
        return session, socket

    def _drive(self) -> None:
        poller = zmq.Poller()
        for socket in self._sockets.values():
            poller.register(socket, zmq.POLLIN)
        period_s = 1.0 / self._rate_hz
        # Not all in the same moment, as no robots are.
        due_s = {
            session: time.monotonic() + index * period_s / len(self._sockets)
            for index, session in enumerate(self._sockets)
        }
        seqs = dict.fromkeys(self._sockets, 0)
        while not self._ending.is_set():
            for session, socket in self._sockets.items():
                if time.monotonic() >= due_s[session]:
                    due_s[session] += period_s
                    seqs[session] += 1
                    self._look(session, socket, seqs[session])
            for socket, _ in poller.poll(_POLL_MS):
                self._hear(socket.recv())

    def _look(self, session: str, socket: Any, seq: int) -> None:
        frame = codec.EncodedImage("jpeg", self._pictures[seq % _PICTURES])
        self.looked_s[session, seq] = time.time()
        socket.send(Observe(session, seq, time.monotonic(), frame, np.array(_STATE)).encode())

    def _hear(self, data: bytes) -> None:
        message = decode(data)
        if isinstance(message, Act):
            self.planned_s[message.session, message.seq] = time.time()


def picture(seed: int) -> NDArray[np.uint8]:
    """Return a frame with the detail of a photograph, uint8 RGB [256, 256, 3]."""
    rng = np.random.default_rng(seed)
    smooth = rng.random((16, 16, 3)).repeat(16, axis=0).repeat(16, axis=1)
    noise = rng.normal(0, 0.03, (_FRAME_PX, _FRAME_PX, 3))
    return (255 * (smooth + noise).clip(0, 1)).astype(np.uint8)
