"""Whose a session is. Those from before belong to nobody: only the role operate may change them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let sessions have an owner."""
    op.add_column("sessions", sa.Column("owner", sa.String(64), nullable=False, server_default=""))
