"""The tables. Times are seconds since 1970 in UTC; the migrations in `migrations/` make what is described here."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

_ID = String(64)
_DIGEST = String(64)

sessions = Table(
    "sessions",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("options", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("order_number", Integer, nullable=False),
    Column("goal_index", Integer, nullable=False),
    Column("goal_steps", Integer, nullable=False),
    # Grows with every change that another replica must learn of.
    Column("revision", Integer, nullable=False),
    # Name of the token that it belongs to; "" is nobody's.
    Column("owner", _ID, nullable=False, server_default=""),
    Index("ix_sessions_ended_at", "ended_at"),
)

images = Table(
    "images",
    metadata,
    Column("sha256", _DIGEST, primary_key=True),
    Column("media_type", String(32), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("stored_at", Double, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

goals = Table(
    "goals",
    metadata,
    Column("session_id", _ID, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("images", JSON, nullable=False),  # digests, in order
    Column("rules", JSON, nullable=False),
)

plans = Table(
    "plans",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("session_id", _ID),  # null: a plan without a session
    Column("seq", BigInteger),
    Column("record", JSON, nullable=False),
    Index("ix_plans_session_id", "session_id", "id"),
    Index("ix_plans_at", "at"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("session_id", _ID),
    Column("kind", String(32), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("detail", Text, nullable=False),
    # Of orders to robots: which one, when the robot first answered, and when its arm was at rest.
    Column("order_number", Integer),
    Column("acknowledged_at", Double),
    Column("standing_at", Double),
    Index("ix_events_session_id", "session_id", "id"),
    Index("ix_events_at", "at"),
)

frames = Table(
    "frames",
    metadata,
    # Of the observed pixels, as the plans' records have it.
    Column("sha256", _DIGEST, primary_key=True),
    Column("stored_at", Double, nullable=False),
    Column("jpeg", LargeBinary, nullable=False),
    Index("ix_frames_stored_at", "stored_at"),
)
