"""Keys of CURVE, the encryption of ZMQ: made here, and the server's list of the clients it lets in."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import zmq.auth

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


class KnownKeys:
    """The public keys in a folder, which is looked into at every question.

    A key that is added counts at once, and one that is removed lets nobody in any more; whoever is connected stays
    connected.

    Args:
        folder: With a file *.key per client.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int], bytes] = {}

    def has(self, key: bytes) -> bool:
        """Whether the client with a public key, in Z85, may connect."""
        versions: dict[tuple[str, int], Path] = {}
        for path in sorted(self._folder.glob("*.key")):
            with contextlib.suppress(FileNotFoundError):  # removed this moment
                versions[path.name, path.stat().st_mtime_ns] = path
        self._known = {
            version: self._known.get(version) or _public_key(path)
            for version, path in versions.items()
        }
        return bool(key) and key in self._known.values()


def _public_key(path: Path) -> bytes:
    """Return the public key in a file; nobody's where it cannot be read."""
    try:
        return zmq.auth.load_certificate(path)[0]
    except (OSError, ValueError) as error:
        logger.warning("the key %s cannot be read: %s", path, error)
        return b""
