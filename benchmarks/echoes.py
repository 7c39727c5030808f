"""Other ways to send a frame and wait: HTTP to our own server, and echoes over websocket and gRPC.

The echoes answer with the bytes they were sent and do nothing else; each runs in a process of its own, as our server
does. The websocket one packs and unpacks msgpack at both ends, as openpi's policy server does.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import multiprocessing
import threading
from collections.abc import Sequence
from concurrent import futures
from typing import Any
from urllib.parse import urlsplit

import grpc
import msgpack
import websockets.asyncio.server
import websockets.sync.client
from typing_extensions import Self

_MAX_BYTES = 64 * 1024 * 1024
_METHOD = "/echo.Echo/Echo"
_START_S = 30.0
_SPAWN = multiprocessing.get_context("spawn")


class Getter:
    """Asks one path over a connection that stays open."""

    def __init__(self, url: str, path: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self) -> None:
        """Ask, and read the answer."""
        self._connection.request("GET", self._path)
        self._connection.getresponse().read()


class HttpAsker(Getter):
    """Observes over HTTP, with the image in base64."""

    def __init__(self, url: str, session: str, image: bytes, state: Sequence[float]) -> None:
        super().__init__(url, f"/v1/sessions/{session}/plan")
        self._image, self._state = image, list(state)

    def ask(self) -> None:
        """Send an observation, encoded anew, and read the answer."""
        body = {"frame": base64.b64encode(self._image).decode(), "state": self._state}
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", self._path, json.dumps(body), headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 409, answer.status  # paused: everything but the plan was done


class _Echo:
    """A peer in a process of its own."""

    def __enter__(self) -> Self:
        ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=type(self).serve, args=(theirs,), daemon=True)
        self._process.start()
        assert ours.poll(_START_S), "the echo did not start"
        self.connect(int(ours.recv()))
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()
        self._process.terminate()
        self._process.join()

    @staticmethod
    def serve(pipe: Any) -> None:
        """Send the port through the pipe and answer for ever."""
        raise NotImplementedError

    def connect(self, port: int) -> None:
        """Connect to the peer."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Close the connection."""
        raise NotImplementedError


class WebsocketEcho(_Echo):
    """A websocket server that unpacks a message and packs it again."""

    @staticmethod
    def serve(pipe: Any) -> None:
        """Serve until ended."""

        async def answer(socket: websockets.asyncio.server.ServerConnection) -> None:
            async for message in socket:
                await socket.send(msgpack.packb(msgpack.unpackb(message)))

        async def run() -> None:
            server = await websockets.asyncio.server.serve(
                answer, "127.0.0.1", 0, compression=None, max_size=_MAX_BYTES
            )
            pipe.send(next(iter(server.sockets)).getsockname()[1])
            await server.serve_forever()

        asyncio.run(run())

    def connect(self, port: int) -> None:
        """Connect to the peer."""
        self._socket = websockets.sync.client.connect(
            f"ws://127.0.0.1:{port}", compression=None, max_size=_MAX_BYTES
        )

    def ask(self, payload: bytes) -> None:
        """Send and wait."""
        self._socket.send(msgpack.packb(msgpack.unpackb(payload)))
        msgpack.unpackb(self._socket.recv())

    def disconnect(self) -> None:
        """Close the connection."""
        self._socket.close()


class GrpcEcho(_Echo):
    """A gRPC server that returns the bytes it gets."""

    @staticmethod
    def serve(pipe: Any) -> None:
        """Serve until ended."""
        handler = grpc.method_handlers_generic_handler(
            "echo.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(lambda data, _: data)}
        )
        server = grpc.server(futures.ThreadPoolExecutor(2), options=_grpc_options())
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        pipe.send(port)
        threading.Event().wait()

    def connect(self, port: int) -> None:
        """Connect to the peer."""
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_grpc_options())
        self._call = self._channel.unary_unary(_METHOD)

    def ask(self, payload: bytes) -> None:
        """Send and wait."""
        self._call(payload, timeout=30)

    def disconnect(self) -> None:
        """Close the connection."""
        self._channel.close()


def _grpc_options() -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", _MAX_BYTES),
        ("grpc.max_send_message_length", _MAX_BYTES),
    ]
