"""The operator's commands: `flask --app login_api block|unblock|attempts`. They need Kafka only."""

import getpass
import ipaddress
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from flask import Flask
from pydantic import ValidationError

from login_api.admin import read_command
from login_api.attempt_history import History, KafkaAttemptHistory
from login_api.documents import MalformedError, read_name
from login_api.errors import PartUnavailableError
from login_api.kafka_clients import refusal
from login_api.record_publisher import Fate, KafkaRecordPublisher
from login_api.records import command_record
from login_api.settings import OnlyKafka
from login_blocking.commands import Action, Command
from login_blocking.complaints import complaints
from login_blocking.kafka_access import KafkaAccess
from login_blocking.moments import iso
from login_blocking.subjects import SUBJECT_TYPES, SubjectType, user_key

_CONNECT_WITHIN_S: Final = 10.0
_TIMEOUT_MS: Final = 5_000


def create_cli() -> Flask:
    """An application that has commands and no calls."""
    app = Flask("login_api", static_folder=None)
    app.cli.add_command(block)
    app.cli.add_command(unblock)
    app.cli.add_command(attempts)
    return app


_subject = click.argument("subject")
_type = click.option(
    "--type", "subject_type", type=click.Choice(list(SUBJECT_TYPES)),
    help="What SUBJECT is; default: user, unless it looks like an address.",
)  # fmt: skip
_by = click.option("--by", default=getpass.getuser, help="Who; default: you.")
_reason = click.option("--reason", required=True, help="Why; kept in the audit trail.")


@click.command()
@_subject
@_type
@_by
@_reason
@click.option("--for", "duration", help="For how long, such as 2h; default: for ever.")
@click.option("--until", help="Until when, ISO 8601.")
def block(**given: str | None) -> None:
    """Block a user or an address, whatever the rules say."""
    given["for"] = given.pop("duration")
    _publish(given, Action.BLOCK)


@click.command()
@_subject
@_type
@_by
@_reason
@click.option("--reset-levels", is_flag=True, help="The next block is the first again.")
def unblock(**given: Any) -> None:  # noqa: ANN401 — click's values
    """End all blocks of a user or an address at once."""
    _publish(given, Action.UNBLOCK)


@click.command()
@click.argument("user")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True)
def attempts(user: str, limit: int) -> None:
    """Show the last attempts at a name, newest first, a JSON object a line."""
    try:
        key = read_name(user)
    except MalformedError as error:
        raise click.ClickException(str(error)) from None
    with _kafka_needed("no attempts could be read") as access:
        history = KafkaAttemptHistory(access).of_user(key, limit)
    for attempt in history.attempts:
        click.echo(json.dumps(json.loads(attempt.encode())))  # escapes what could be no text
    if told := _how_far(history):
        click.echo(told, err=True)  # not among the attempts, which a program may read


def _how_far(history: History) -> str | None:
    back_to = history.searched_back_to
    if back_to is None:
        return None if history.attempts else "None was found among all attempts that Kafka keeps."
    if history.attempts:
        return f"There may be more before {iso(back_to)}: the search was ended there."
    return f"None was found since {iso(back_to)}: the search was ended there."


def _publish(given: dict[str, Any], action: Action) -> None:
    given["subject_type"] = given["subject_type"] or _type_of(given["subject"])
    try:
        command = read_command(given, action, time.time_ns() // 1_000_000)
    except MalformedError as error:
        raise click.ClickException(str(error)) from None
    with _kafka_needed("nothing was done") as access:
        _send(access, command)
    click.echo(f"{action.value} {command.subject.type} {command.subject.key!r}: on its way")


def _type_of(subject: str) -> SubjectType:
    """A user: what looks like an address, or a network, is never taken for a name in silence."""
    try:
        ipaddress.ip_interface(user_key(subject))  # in which other digits become these
    except ValueError:
        return "user"
    raise click.ClickException(
        f"subject: {subject!r} looks like an address: say --type ip, or --type user for a user of"
        " that name"
    )


def _send(access: KafkaAccess, command: Command) -> None:
    publisher = KafkaRecordPublisher(access, _TIMEOUT_MS)
    deadline = time.monotonic() + _CONNECT_WITHIN_S
    try:
        while publisher.publish_all([command_record(command)]) != [Fate.PUBLISHED]:
            if publisher.refused is not None:
                raise click.ClickException(f"Kafka refuses us: {publisher.refused}")
            if time.monotonic() > deadline:
                raise PartUnavailableError("kafka")
            time.sleep(0.1)
    finally:
        publisher.close()


@contextmanager
def _kafka_needed(without_it: str) -> Iterator[KafkaAccess]:
    try:
        access = OnlyKafka().kafka()
    except ValidationError as error:
        raise click.ClickException("\n".join(complaints(error, "LOGIN_API_"))) from None
    try:
        yield access
    except PartUnavailableError as error:
        why = refusal(access, error.__cause__) if isinstance(error.__cause__, Exception) else None
        told = f"does not answer at {access.bootstrap}" if why is None else f"refuses us: {why}"
        raise click.ClickException(f"Kafka {told}; {without_it}") from None
