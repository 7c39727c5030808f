"""Puts the service together when it starts, and takes it apart again without leaving a robot in doubt."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

from sqlalchemy import Engine

from planner_server import __version__
from planner_server.adoption import Adoption
from planner_server.errors import StartupError
from planner_server.goal_images import GoalMaker
from planner_server.housekeeping import keep_house
from planner_server.metrics import Metrics
from planner_server.observed_frames import FrameKeeper
from planner_server.order_desk import OrderDesk
from planner_server.security.addresses import is_local_endpoint
from planner_server.security.keys import CurveKeys, read_keys
from planner_server.security.rates import RateLimiter
from planner_server.security.tokens import TokenRing, entry_of, read_tokens
from planner_server.served_model import ServedModel, load_served_model
from planner_server.service import PlannerService
from planner_server.session import Session
from planner_server.sessions import SessionStore
from planner_server.settings import Settings
from planner_server.store.archive import Archive
from planner_server.store.database import is_memory, open_database
from planner_server.store.history import History
from planner_server.store.location import Location
from planner_server.store.rows import Retention
from planner_server.store.writer import Writer
from planner_server.streams import Streams
from planner_server.terms import Defaults
from planner_server.worker import PlanningWorker, WorkerOptions
from planner_server.zmq_door import ZmqDoor

logger = logging.getLogger(__name__)

_IN_MEMORY = 5000  # plans kept where there is no disk
_GIL_SWITCH_S = 5e-4  # how long the planning thread may keep the event loop from running Python
_BURST_S = 2.0  # a pause of this length saves up as many requests


@dataclass(frozen=True, eq=False)
class Parts:
    """What the application needs of a running service."""

    service: PlannerService
    goal_maker: GoalMaker
    rates: RateLimiter
    zmq_endpoint: str


def known_tokens(settings: Settings) -> TokenRing:
    """Return the tokens that are configured.

    Raises:
        StartupError: The file cannot be used, or the robots' door is open to other machines without any guard.
    """
    entries = read_tokens(settings.tokens_file) if settings.tokens_file else []
    if settings.token is not None:
        entries.append(entry_of("PLANNER_TOKEN", "operate", settings.token.get_secret_value()))
    tokens = TokenRing(entries)
    is_guarded = not tokens.is_open or settings.curve_clients is not None
    if not is_guarded and not is_local_endpoint(settings.zmq_endpoint):
        raise StartupError(
            f"zmq_endpoint {settings.zmq_endpoint} lets other machines in, and there is neither a token nor a list of "
            "keys to keep strangers out. Set PLANNER_TOKEN, or curve_secret_key and curve_clients, or listen on "
            "tcp://127.0.0.1:5555"
        )
    return tokens


@asynccontextmanager
async def serving(settings: Settings, tokens: TokenRing) -> AsyncIterator[Parts]:
    """Run the service: worker, database, robots' door.

    Whatever was begun is undone in reverse, also where the start, or another step of the end, fails.

    Raises:
        StartupError: One of them cannot start.
    """
    sys.setswitchinterval(_GIL_SWITCH_S)
    async with AsyncExitStack() as stack:
        service = await _open(settings, tokens, stack)
        door = ZmqDoor(settings.zmq_endpoint, _rates(settings.messages_per_s), _keys(settings))
        stack.push_async_callback(door.close)
        restored = await asyncio.to_thread(service.adoption.restore)
        _announce(settings, service, door, restored)
        _begin(service, door, stack, settings.drain_s)
        yield Parts(
            service,
            GoalMaker(service, settings.episodes),
            _rates(settings.requests_per_s),
            _told(door.endpoint, settings.public_host),
        )


async def _open(settings: Settings, tokens: TokenRing, stack: AsyncExitStack) -> PlannerService:
    """Load the model and open the database; the records of the last plans are written when it ends."""
    worker = PlanningWorker(partial(load_served_model, settings), _worker_options(settings))
    stack.push_async_callback(asyncio.to_thread, worker.stop)
    model = await asyncio.wrap_future(worker.start())
    location = Location(settings)
    stack.callback(location.release)
    engine = await asyncio.to_thread(open_database, location.url)
    service = _service(settings, tokens, worker, model, engine)
    service.sessions.on_forgotten = lambda session: _forget(service, session)
    stack.push_async_callback(asyncio.to_thread, service.archive.close)
    stack.push_async_callback(asyncio.to_thread, service.frames.close)
    return service


def _begin(service: PlannerService, door: ZmqDoor, stack: AsyncExitStack, drain_s: float) -> None:
    """Let robots in. At the end they are told first, and the plans under way are answered before the door closes."""
    stack.callback(service.archive.note, "server_stopped", None, "server")
    door.start(service)
    stack.callback(asyncio.create_task(keep_house(service)).cancel)
    stack.push_async_callback(asyncio.to_thread, service.worker.stop)
    stack.push_async_callback(asyncio.to_thread, service.worker.drain, drain_s)
    stack.push_async_callback(door.announce_end)
    stack.callback(service.streams.close)
    stack.enter_context(_streams_end_on_signal(service.streams))


def _service(
    settings: Settings,
    tokens: TokenRing,
    worker: PlanningWorker,
    model: ServedModel,
    engine: Engine,
) -> PlannerService:
    retention, writer = _retention(settings, engine), Writer(engine)
    archive, history = Archive(engine, retention, writer), History(engine, writer)
    sessions = SessionStore(settings.max_sessions, settings.session_idle_s)
    streams = Streams(settings.max_streams)
    defaults = Defaults(settings.default_planner, settings.horizon, settings.deadline_ms)
    idle_s = settings.session_idle_s
    return PlannerService(
        model=model,
        worker=worker,
        sessions=sessions,
        adoption=Adoption(sessions, archive, streams, model, defaults, idle_s),
        archive=archive,
        history=history,
        frames=FrameKeeper(history, is_keeping=retention.max_frames > 0),
        defaults=defaults,
        tokens=tokens,
        metrics=Metrics(),
        streams=streams,
        orders=OrderDesk(archive, history, streams),
        idle_s=idle_s,
    )


def _retention(settings: Settings, engine: Engine) -> Retention:
    """Return what is kept: less of it where there is no disk."""
    most = min(settings.retain_plans, _IN_MEMORY) if is_memory(engine) else settings.retain_plans
    return Retention(settings.retain_days, most, min(settings.retain_frames, most))


def _told(endpoint: str, public_host: str | None) -> str:
    """Return the endpoint as robots are told it."""
    if public_host is None or not endpoint.startswith("tcp://"):
        return endpoint
    return f"tcp://{public_host}:{endpoint.rpartition(':')[2]}"


def _announce(settings: Settings, service: PlannerService, door: ZmqDoor, restored: int) -> None:
    model = service.model
    logger.info(
        "%s (%d weights) on %s in %s", model.name, model.parameters, model.device, model.precision
    )
    logger.info("robots connect to %s; %d sessions go on", door.endpoint, restored)
    detail = f"vjepa-planner {__version__}, model {model.name} {model.sha256[:12]}, settings {settings.digest()}"
    service.archive.note("server_started", None, "server", detail)


@contextmanager
def _streams_end_on_signal(streams: Streams) -> Iterator[None]:
    """Close the event streams as soon as the process is asked to stop.

    uvicorn waits for open connections before it tells the application that it stops, and a stream never ends by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def close(kind: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(streams.close)
        handler = previous[signal.Signals(kind)]
        if callable(handler):
            handler(kind, frame)

    for kind, handler in previous.items():
        if callable(handler):
            signal.signal(kind, close)
    try:
        yield
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def _forget(service: PlannerService, session: Session) -> None:
    logger.info("session %s was idle for too long", session.id)
    service.forget_idle(session)


def _keys(settings: Settings) -> CurveKeys | None:
    if settings.curve_secret_key is None or settings.curve_clients is None:
        return None
    return read_keys(settings.curve_secret_key, settings.curve_clients)


def _rates(per_s: float) -> RateLimiter:
    return RateLimiter(per_s, burst=_BURST_S * per_s)


def _worker_options(settings: Settings) -> WorkerOptions:
    return WorkerOptions(
        torch_threads=settings.torch_threads,
        goal_cache=settings.goal_cache,
        max_waiting=settings.max_waiting,
        max_sessions=settings.max_sessions,
        max_search_s=settings.max_search_s,
    )
