"""When orders were obeyed, and small pictures of what was observed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let events carry orders, and make the table of pictures."""
    op.add_column("events", sa.Column("order_number", sa.Integer))
    op.add_column("events", sa.Column("acknowledged_at", sa.Double))
    op.add_column("events", sa.Column("standing_at", sa.Double))
    op.create_table(
        "frames",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("stored_at", sa.Double, nullable=False),
        sa.Column("jpeg", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_frames_stored_at", "frames", ["stored_at"])
