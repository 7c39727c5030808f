"""The connection to SQLite or PostgreSQL, brought to the newest schema."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from planner_server.errors import StartupError

logger = logging.getLogger(__name__)

MEMORY_URL = "sqlite://"
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_305_552  # any number that this service's replicas agree on
_BUSY_TIMEOUT_S = 2.0
_CACHE_KIB = 256  # per connection; what is written is hardly ever read, and the system caches the file anyway


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def open_database(url: str) -> Engine:
    """Connect, and bring the schema to the newest version.

    Args:
        url: `sqlite:///path`, `sqlite://` for memory alone, or `postgresql+psycopg://user@host/name`.

    Raises:
        StartupError: Nobody answers there, or the schema cannot be brought up to date.
    """
    try:
        engine = _engine(url)
        migrate(engine)
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise StartupError(
            f"the database {_without_password(url)} cannot be used: {error}. Check data_dir, or PLANNER_DATABASE_URL "
            "(postgresql+psycopg://user:password@host/name)"
        ) from error
    return engine


def migrate(engine: Engine) -> None:
    """Apply the migrations that are missing; replicas that start together take turns."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_shared(engine: Engine) -> bool:
    """Whether other replicas may write here, too."""
    return engine.dialect.name != "sqlite"


def is_memory(engine: Engine) -> bool:
    """Whether nothing outlives the process."""
    return str(engine.url) == MEMORY_URL


def size_bytes(connection: Connection) -> int | None:
    """Return the size of a SQLite database; None for others, which their own tools measure."""
    if connection.dialect.name != "sqlite":
        return None
    pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    page_bytes = connection.execute(text("PRAGMA page_size")).scalar_one()
    return int(pages) * int(page_bytes)


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=4)
    options: dict[str, Any] = {
        "connect_args": {"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}
    }
    if url == MEMORY_URL:
        options["poolclass"] = StaticPool
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Readers never wait for the writer, and a power cut costs the last plans at most, never the file."""
    cursor = connection.cursor()
    for pragma in (
        "auto_vacuum=INCREMENTAL",  # before WAL, while the file is empty
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        f"cache_size=-{_CACHE_KIB}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://...@{tail}" if at else url
