"""The schema, as alembic migrations that run at start."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

_LOCK_ID = 7_305_221
"""Any number, known to nobody else: several processes may start at once, one migrates."""


def migrate(database_url: str) -> None:
    """Brings the schema up to date; safe to repeat and to run from many processes."""
    config = Config()
    folder = str(Path(__file__).parent)
    config.set_main_option("script_location", folder.replace("%", "%%"))  # configparser's escape
    url = make_url(database_url).set(drivername="postgresql+psycopg2")
    engine = create_engine(url, connect_args={"connect_timeout": 5})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK_ID})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
