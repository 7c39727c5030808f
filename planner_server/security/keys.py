"""Keys of CURVE, the encryption of ZMQ: made here, and the server's list of the clients it lets in."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.auth.asyncio import AsyncioAuthenticator

from planner_server.errors import StartupError

logger = logging.getLogger(__name__)

_SECRET_MODE = 0o600


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys: NAME.key may be known to all, NAME.key_secret to its owner alone.

    Raises:
        FileExistsError: A key of this name is there already; it is never overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".key", ".key_secret"):
        if (folder / f"{name}{suffix}").exists():
            raise FileExistsError(
                f"{folder / name}{suffix} exists; choose another name, or remove it first"
            )
    public, secret = zmq.auth.create_certificates(str(folder), name)
    Path(secret).chmod(_SECRET_MODE)
    return Path(public), Path(secret)


@dataclass(frozen=True)
class CurveKeys:
    """What the server needs for encryption.

    Attributes:
        public: Its public key.
        secret: Its secret key.
        clients: Folder with the public keys (*.key) of those who may connect; read again when it changes.
    """

    public: bytes
    secret: bytes
    clients: Path


def read_keys(secret_file: Path, clients: Path) -> CurveKeys:
    """Read the server's keys.

    Raises:
        StartupError: A file or the folder is not there, or not what it should be.
    """
    try:
        public, secret = zmq.auth.load_certificate(secret_file)
    except (OSError, ValueError) as error:
        raise StartupError(
            f"curve_secret_key={secret_file} cannot be used: {error}. "
            "`python -m planner_server keys server` makes one"
        ) from error
    if secret is None or not clients.is_dir():
        raise StartupError(
            f"CURVE needs a secret key (found {'one' if secret else 'none'} in {secret_file}) and a folder with "
            f"the clients' public keys ({clients}); `python -m planner_server keys NAME` makes them"
        )
    return CurveKeys(public, secret, clients)


class CurveGuard:
    """Encrypts a socket and lets in the clients whose public keys lie in a folder.

    The folder is looked into at every handshake: a key that is added counts at once, and one that is removed lets
    nobody in any more; whoever is connected stays connected.

    Args:
        context: The socket's context.
        keys: The server's own, and where the clients' are.
    """

    def __init__(self, context: zmq.Context[Any], keys: CurveKeys) -> None:
        self._context = context
        self._keys = keys
        self._known: dict[tuple[str, int], bytes] = {}
        self._authenticator: AsyncioAuthenticator | None = None

    def protect(self, socket: zmq.Socket[Any]) -> None:
        """Encrypt a socket that is not bound yet."""
        socket.curve_server = True
        socket.curve_publickey = self._keys.public
        socket.curve_secretkey = self._keys.secret

    def start(self) -> None:
        """Begin to check clients; needs the running event loop."""
        self._authenticator = AsyncioAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(domain="*", credentials_provider=self)

    def stop(self) -> None:
        """Stop checking."""
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - the signature is pyzmq's
        """Say whether the client with a public key may connect; called by the authenticator."""
        is_known = key in self._allowed()
        if not is_known:
            logger.warning("a client with the unknown key %s is refused", key.decode())
        return is_known

    def _allowed(self) -> set[bytes]:
        """Return the public keys in the folder; files are read again when they changed."""
        paths = sorted(self._keys.clients.glob("*.key"))
        versions = {(path.name, path.stat().st_mtime_ns): path for path in paths}
        self._known = {
            version: self._known.get(version) or _public_key(path)
            for version, path in versions.items()
        }
        return set(self._known.values())


def _public_key(path: Path) -> bytes:
    """Return the public key in a file; nobody's where it cannot be read."""
    try:
        return zmq.auth.load_certificate(path)[0]
    except (OSError, ValueError) as error:
        logger.warning("the key %s cannot be read: %s", path, error)
        return b""
