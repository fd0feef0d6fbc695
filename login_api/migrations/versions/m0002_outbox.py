"""The outbox: records that Kafka has not taken yet. See docs/decisions/0005-outbox.md."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """`sent_at`: handed to Kafka then, without an answer; NULL if Kafka never saw the record.

    The one row of outbox_gate tells where records go: straight to Kafka while closed_at is NULL.
    """
    op.execute(
        """
        CREATE TABLE outbox (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            topic text NOT NULL,
            key bytea,
            value bytea NOT NULL,
            ts bigint NOT NULL,
            sent_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX outbox_order ON outbox (ts, seq);
        CREATE TABLE outbox_refused (
            seq bigint PRIMARY KEY,
            topic text NOT NULL,
            key bytea,
            value bytea NOT NULL,
            ts bigint NOT NULL,
            created_at timestamptz NOT NULL,
            refused_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE TABLE outbox_gate (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            closed_at timestamptz
        );
        INSERT INTO outbox_gate DEFAULT VALUES
        """
    )
