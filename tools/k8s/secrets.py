"""`make k8s-secrets`: random passwords for the overlay `dev`, in a file that git ignores."""

import base64
import secrets
import sys
import uuid
from pathlib import Path
from typing import Final

from tools.stack.layout import ROOT

FILE: Final = ROOT / "k8s" / "overlays" / "dev" / "secrets.env"
RANDOM: Final = (
    "POSTGRES_PASSWORD",
    "REDIS_ADMIN_PASSWORD",
    "REDIS_DETECTOR_PASSWORD",
    "REDIS_LOGIN_API_PASSWORD",
    "REDIS_BLOCKED_API_PASSWORD",
    "LOGIN_API_PLACES_KEY",
    "LOGIN_API_ADMIN_TOKEN",
)
"""What stands in URLs is made of letters that need no escape there."""


def main() -> int:
    """Writes the file unless it is there: other passwords would lock out what has the old ones."""
    if FILE.exists():
        print(f"{FILE.relative_to(ROOT)} is there already, and stays")
        return 0
    write(FILE)
    print(f"wrote {FILE.relative_to(ROOT)}; for its owner only, and not for git")
    return 0


def write(file: Path) -> None:
    """New secrets, readable by nobody else."""
    values = {name: secrets.token_urlsafe(24) for name in RANDOM}
    values["BLOCKED_API_TOKEN"] = ""  # empty: whoever reaches the Blocked API may ask
    values["KAFKA_CLUSTER_ID"] = _cluster_id()
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def _cluster_id() -> str:
    # Not with a dash in front: Kafka's tool would take it for an option.
    while True:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not identity.startswith("-"):
            return identity


if __name__ == "__main__":
    sys.exit(main())
