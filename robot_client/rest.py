"""Goals and sessions over HTTP, with the standard library alone.

The control loop speaks ZMQ; this is for the moments before it: is the server ready, make a session,
upload the goal images.
"""

import base64
import http.client
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray

from robot_client.errors import RobotClientError, ServerRefusedError, ServerUnreachableError

Array = NDArray[np.float64]

DEFAULT_URL = "http://127.0.0.1:8000"

_MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True)
class SessionOptions:
    """How a session's plans are searched; None leaves the choice to the server.

    Attributes:
        planner: One of the names in `welcome.planners`.
        search_gripper: Whether the gripper's closedness is searched, too.
        max_step_m: Largest displacement per axis and action [m].
        seed: Of the search's random numbers.
    """

    planner: str | None = None
    search_gripper: bool = True
    max_step_m: float | None = None
    seed: int = 0


class RestClient:
    """One server's HTTP API.

    Args:
        url: E.g. http://192.168.1.10:8000.
        token: Secret of `PLANNER_TOKEN`, where the server has one.
        timeout_s: Limit for connecting and for each answer.
    """

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout_s: float = 30.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RobotClientError(f"{url!r} is no HTTP address; it looks like {DEFAULT_URL}")
        self._url = url
        self._parts = parts
        self._token = token
        self._timeout_s = timeout_s

    def is_ready(self) -> bool:
        """Whether the server answers and its model is loaded."""
        try:
            self._request("GET", "/readyz")
        except RobotClientError:
            return False
        return True

    def model(self) -> dict[str, Any]:
        """Name, frame size [px], control period [s] and limits of the model served."""
        return self._request("GET", "/v1/model")

    def create_session(self, options: SessionOptions, replaces: str | None = None) -> str:
        """Make a session; returns its id.

        Args:
            options: How its plans are searched.
            replaces: Id of the one that the server has lost in the middle of a run, whose robot has
                not heard what was ordered since; None for a new run.
        """
        body = {
            "planner": options.planner,
            "search_gripper": options.search_gripper,
            "max_step_m": options.max_step_m,
            "seed": options.seed,
        }
        given = {key: value for key, value in body.items() if value is not None}
        query = "" if replaces is None else "?" + urlencode({"replaces": replaces})
        answer = self._request("POST", "/v1/sessions" + query, json.dumps(given).encode())
        return str(answer["id"])

    def put_goals(self, session: str, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Replace the session's goals by image files (PNG or JPEG), in the order of the task."""
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="images"; '
            f'filename="goal-{index}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode()
            + data
            + b"\r\n"
            for index, data in enumerate(images)
        ]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        answer = self._request("PUT", f"/v1/sessions/{session}/goals", body, kind)
        return list(answer["goals"])

    def energies(self, frame: bytes, goal: bytes, state: Array, actions: Array) -> dict[str, Any]:
        """Ask for the goal energies of given actions: `energies` `[S]` and `energy_now`.

        Args:
            frame: Current camera image (PNG or JPEG).
            goal: Goal image.
            state: Pose `[7]`.
            actions: `[S, H, 7]`.
        """
        body = {
            "frame": base64.b64encode(frame).decode(),
            "goal": base64.b64encode(goal).decode(),
            "state": state.tolist(),
            "actions": actions.tolist(),
        }
        return self._request("POST", "/v1/energy", json.dumps(body).encode())

    def give_order(self, session: str, verb: str, reason: str = "") -> None:
        """Order `verb`, one of pause, resume and stop, to a session's robot; needs the role operate."""
        body = json.dumps({"reason": reason}).encode()
        self._request("POST", f"/v1/sessions/{session}/{verb}", body)

    def stop_all(self, reason: str = "") -> dict[str, Any]:
        """Order every robot of the server to stop; needs the role operate.

        Returns:
            `sessions`: for each what its arm does and how soon; the server waits a second for that.
        """
        body = json.dumps({"reason": reason}).encode()
        return self._request("POST", "/v1/stop-all", body)

    def delete_session(self, session: str) -> None:
        """Forget a session."""
        self._request("DELETE", f"/v1/sessions/{session}")

    def _request(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        headers = {"Content-Type": kind} if body is not None else {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            status, data = response.status, response.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachableError(
                f"no planner server at {self._url} ({error}). Start it with "
                "`uvicorn planner_server.app:app`, or name another with --http."
            ) from error
        finally:
            connection.close()
        return _answer(status, data)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = str(self._parts.hostname), self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)


def _answer(status: int, data: bytes) -> dict[str, Any]:
    """The JSON map of an answer; an error answer becomes `ServerRefusedError`."""
    try:
        values = json.loads(data) if data else {}
    except ValueError:
        values = None
    if status >= 400 and isinstance(values, dict):
        code, message = values.get("code", f"http_{status}"), values.get("message", "no reason")
        raise ServerRefusedError(str(code), str(message))
    if status >= 400 or not isinstance(values, dict):
        shown = data[:120].decode(errors="replace")
        raise ServerRefusedError(f"http_{status}", f"this is no planner server; it says {shown!r}")
    return values
