"""People and their entries."""

import sqlalchemy as sa
from alembic import op

revision = "answers_1"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables as they were in the first version."""
    op.create_table(
        "people",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("user_id", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.UniqueConstraint("model", "user_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "entries",
        sa.Column("person", sa.Integer, sa.ForeignKey("people.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("answer", sa.Text),
        sa.Column("takes_back", sa.Integer),
        sa.Column("key", sa.String(200)),
        sa.Column("time", sa.String(40), nullable=False),
    )
    op.create_index("entries_by_key", "entries", ["person", "key"])
