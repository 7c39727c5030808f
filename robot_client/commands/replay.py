"""`robot-client replay PATH...`: judge planners on recorded episodes, through a real server."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robot_client.errors import RunError
from robot_client.planner_client import ServerAddress
from robot_client.protocol import DEFAULT_ADDRESS
from robot_client.replay.checkpoint_server import CheckpointServer
from robot_client.replay.remote_planner import RemotePlanner
from robot_client.rest import DEFAULT_URL, RestClient, SessionOptions
from trajectories.errors import TrajectoryError
from trajectories.replay.engine import PlannerUnderTest
from trajectories.replay.job import Job, OpenPlanner, add_arguments, carry_out, job_of

NAME = "replay"
HELP = "judge planners on recorded episodes; `replay compare A.json B.json` for two results"

_REST_TIMEOUT_S = 120.0  # energies of a landscape on a busy CPU


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    add_arguments(parser)
    add = parser.add_argument
    add("--server", action="append", help=f"planner over ZMQ (default {DEFAULT_ADDRESS})")
    add("--http", action="append", help=f"the same over HTTP (default {DEFAULT_URL})")
    add(
        "--checkpoint",
        type=Path,
        action="append",
        help="start a server of its own for this model, on this machine; several are compared",
    )
    add("--planner", action="append", help="one of the server's planners; several are compared")
    add("--token", help="the servers' PLANNER_TOKEN, where they have one")


def run(options: argparse.Namespace) -> int:
    """Replay and write the report; returns the exit status."""
    try:
        job = job_of(options)
        return carry_out(job, list(_planners(options, job)))
    except TrajectoryError as error:
        raise RunError(str(error)) from error


def _planners(options: argparse.Namespace, job: Job) -> Iterator[OpenPlanner]:
    """Every server with every planner, each opened when its turn comes."""
    names: list[str | None] = options.planner or [None]
    if options.checkpoint:
        if options.server or options.http:
            raise RunError("--checkpoint starts its own server; leave --server and --http out")
        places = [(path.name or str(path), path) for path in options.checkpoint]
        for label, path in places:
            for name in names:
                yield _checkpoint(path, _label(label, name, len(places)), name, job.settings.seed)
        return
    for server, url in _addresses(options):
        for name in names:
            label = _label(server, name, len(options.server or [server]))
            rest = RestClient(url, options.token, _REST_TIMEOUT_S)
            session = SessionOptions(planner=name, seed=job.settings.seed)
            yield RemotePlanner(ServerAddress(server, options.token), rest, session, label)


def _addresses(options: argparse.Namespace) -> list[tuple[str, str]]:
    servers: list[str] = options.server or [DEFAULT_ADDRESS]
    urls: list[str] = options.http or [DEFAULT_URL]
    if len(servers) != len(urls):
        raise RunError(
            f"{len(servers)} --server for {len(urls)} --http; give both for each server, in the same order"
        )
    return list(zip(servers, urls, strict=True))


def _label(place: str, planner: str | None, places: int) -> str:
    """Name what differs: planners of one model, or models, or both."""
    if places == 1:
        return planner or "default planner"
    return place if planner is None else f"{place} {planner}"


@contextmanager
def _checkpoint(
    path: Path, label: str, planner: str | None, seed: int
) -> Iterator[PlannerUnderTest]:
    """Serve a model for the time of its replay."""
    with CheckpointServer(path) as server:
        rest = RestClient(server.url, timeout_s=_REST_TIMEOUT_S)
        address = ServerAddress(rest.model()["zmq_endpoint"])
        options = SessionOptions(planner=planner, seed=seed)
        with RemotePlanner(address, rest, options, label) as remote:
            yield remote
