"""What callers ask for: parameters and bodies, read strictly."""

import base64
import binascii
import re
from typing import Any, Final

import orjson
from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from login_blocking.subjects import SUBJECT_TYPES, Subject, SubjectType, subject_key

MOST_ON_A_PAGE: Final = 10_000
MOST_CHECKED: Final = 1_000
MOST_BODY_BYTES: Final = 128 * 1024

_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,9}\Z")
_TYPE_NAMES: Final[dict[str, SubjectType]] = {"users": "user", "ips": "ip"}


def whole_number(name: str, *, least: int, most: int) -> int | None:
    """A parameter that is one; None if it was not given."""
    text = request.args.get(name)
    if text is None:
        return None
    if not _WHOLE_NUMBER.match(text) or not least <= int(text) <= most:
        raise BadRequest(f"{name}: not a whole number from {least:,} to {most:,}")
    return int(text)


def cursor() -> Any:  # noqa: ANN401 — what `write_cursor` was given
    """The parameter `cursor`, as `write_cursor` wrote it; None if it was not given."""
    text = request.args.get("cursor")
    if text is None:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        return orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise _not_a_cursor() from None


def name_cursor() -> str | None:
    """A cursor that is a name."""
    found = cursor()
    if found is not None and not isinstance(found, str):
        raise _not_a_cursor()
    return found


def newest_cursor() -> tuple[int, str, str] | None:
    """A cursor as `newest_first` sorts."""
    match cursor():
        case None:
            return None
        case [int(moment), str(subject_type), str(subject)]:
            return moment, subject_type, subject
    raise _not_a_cursor()


def write_cursor(place: object) -> str:
    """Text for the parameter `cursor`."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).rstrip(b"=").decode()


def optional_type() -> SubjectType | None:
    """The parameter `subject_type`; None if it was not given."""
    text = request.args.get("subject_type")
    if not text:
        return None
    for kind in SUBJECT_TYPES:
        if text == kind:
            return kind
    raise BadRequest("subject_type: neither user nor ip")


def one_subject() -> Subject:
    """The parameters `subject_type` and `subject`."""
    kind = optional_type()
    if kind is None:
        raise BadRequest("subject_type: neither user nor ip")
    return subject(kind, request.args.get("subject", ""))


def subject(kind: SubjectType, text: str) -> Subject:
    """In its normal form; 400 with the reason for what is none."""
    try:
        return Subject(kind, subject_key(kind, text))
    except ValueError as error:
        reason = str(error) if kind == "user" else "not an IPv4 or IPv6 address"
        raise BadRequest(f"{kind}: {reason}") from None


def checked() -> list[tuple[Subject, str]]:
    """The body of a check: each subject with the spelling in which it was asked for."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json")
    if (request.content_length or 0) > MOST_BODY_BYTES:
        raise RequestEntityTooLarge
    try:
        document = orjson.loads(request.get_data())
    except ValueError:
        raise BadRequest("The body is not JSON") from None
    if not isinstance(document, dict) or not document.keys() <= _TYPE_NAMES.keys():
        raise BadRequest('The body is not of the form {"users":[…],"ips":[…]}')
    asked = [
        (kind, text)
        for field, kind in _TYPE_NAMES.items()
        for text in _texts(field, document.get(field, []))
    ]
    if len(asked) > MOST_CHECKED:
        raise BadRequest(f"At most {MOST_CHECKED:,} subjects together")
    return [(subject(kind, text), text) for kind, text in asked]


def _texts(field: str, found: object) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BadRequest(f"{field}: not a list of texts")
    return found


def _not_a_cursor() -> BadRequest:
    return BadRequest("cursor: not one that was given out")
