"""Accounts."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """An account is a user key and a hash; nothing else is known of a person."""
    op.execute(
        """
        CREATE TABLE accounts (
            user_key text PRIMARY KEY,
            password_hash text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
