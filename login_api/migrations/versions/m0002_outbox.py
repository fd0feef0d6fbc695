"""The outbox: records that Kafka has not taken yet."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """`uncertain`: Kafka may hold the record already. Read in the order of `ts`, `seq`."""
    op.execute(
        """
        CREATE TABLE outbox (
            seq bigserial PRIMARY KEY,
            topic text NOT NULL,
            key bytea,
            value bytea NOT NULL,
            ts bigint NOT NULL,
            uncertain boolean NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX outbox_order ON outbox (ts, seq)")
    op.execute("CREATE INDEX outbox_key ON outbox (key)")
