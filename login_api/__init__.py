"""The Login API: registers and checks accounts, and writes every attempt down as a fact."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> "Flask":
    """What `flask --app login_api` finds: the operator's commands, and nothing that serves."""
    from login_api.cli import create_cli  # noqa: PLC0415 — only the command line needs it

    return create_cli()
