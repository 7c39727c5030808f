"""Which addresses only this machine can reach."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence

_HOST_OPTION = "--host"
_HOST_VARIABLE = "UVICORN_HOST"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, a name or an IP address."""
    host = host.strip("[]").split("%")[0]
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_local_endpoint(endpoint: str) -> bool:
    """Whether only this machine can reach a ZMQ endpoint."""
    if not endpoint.startswith("tcp://"):
        return True  # ipc: a file of this machine
    return is_loopback(endpoint.removeprefix("tcp://").rpartition(":")[0])


def host_of(authority: str) -> str:
    """Return the host of a `Host` header, without its port."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def uvicorn_host(arguments: Sequence[str]) -> str | None:
    """Return the address that uvicorn was told to listen on, where the command line or environment says so."""
    for index, argument in enumerate(arguments):
        if argument == _HOST_OPTION and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{_HOST_OPTION}="):
            return argument.partition("=")[2]
    return os.environ.get(_HOST_VARIABLE)
