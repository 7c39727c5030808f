"""The connection to SQLite or PostgreSQL, brought to the newest schema."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from planner_server.errors import StartupError

logger = logging.getLogger(__name__)

MEMORY_URL = "sqlite://"
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_305_552  # any number that this service's replicas agree on
_BUSY_TIMEOUT_S = 2.0
_REMEDY = "Check data_dir, or PLANNER_DATABASE_URL (postgresql+psycopg://user:password@host/name)"
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
        engine = _checked_engine(url)
        migrate(engine)
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise StartupError(
            f"the database {_without_secrets(url)} cannot be used: {error}. {_REMEDY}"
        ) from error
    except CommandError as error:
        raise StartupError(
            f"the database {_without_secrets(url)} belongs to another version of the server ({error}); start that "
            "one, or give this one a database of its own: PLANNER_DATA_DIR or PLANNER_DATABASE_URL"
        ) from error
    return engine


def migrate(engine: Engine) -> None:
    """Apply the migrations that are missing; replicas that start together take turns."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
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


def _checked_engine(url: str) -> Engine:
    try:
        return _engine(url)
    except ValueError:  # its text may quote a part of the password
        raise StartupError(
            f"the database {_without_secrets(url)} cannot be used: its port is no number; in a password, @ and : are "
            f"written %40 and %3A. {_REMEDY}"
        ) from None


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


def _without_secrets(url: str) -> str:
    """Return scheme and place of a URL; a password may stand before the @, and among the options behind the ?."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "..."  # where a password might be, nobody can tell
    before, at, place = rest.rpartition("@")
    if "?" in before:  # the @ may be one of a password among the options
        return f"{scheme}://..."
    return f"{scheme}://{'...@' if at else ''}{place.partition('?')[0]}"
