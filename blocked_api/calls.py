"""The calls about blocks: what each answers. docs/blocked-api.md is their contract."""

import unicodedata
from bisect import bisect_right
from itertools import islice
from typing import Final

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest

from blocked_api import asked
from blocked_api.access import Clients, ListRate
from blocked_api.block_feed import ListState
from blocked_api.block_list import BlockList, matching, newest_first
from blocked_api.blocks import summary_of, told_until
from blocked_api.changes import Version
from blocked_api.list_bytes import FIELDS, ListBytes, NewestFirst, Packed, gzip_bytes
from blocked_api.metrics import Metrics
from blocked_api.present import Reading
from blocked_api.summary import summary
from login_blocking.subjects import SubjectType

_LISTS: Final[dict[str, SubjectType]] = {"/blocked": "user", "/blocked/ips": "ip"}
_ONE_SUBJECT: Final = ("/blocked/users/", "/blocked/ips/")
_GZIP_FROM_BYTES: Final = 1_024
_GZIP_ONCE_FROM_BYTES: Final = 16_384
"""For answers that are made for one client."""
_PAGE_FOR_PEOPLE: Final = 50
_MOST_FOR_PEOPLE: Final = 500
_MOST_EVENTS: Final = 500


class RateExceededError(Exception):
    """This client has had its share of lists for now."""


class Calls:
    """The answers, around whatever tells the present."""

    def __init__(
        self,
        present: Reading,
        rate: ListRate,
        clients: Clients,
        metrics: Metrics,
        login_api_url: str | None,
    ) -> None:
        self._clients = clients
        self._present = present
        self._lists = ListBytes(present)
        self._newest = NewestFirst(present)
        self._rate = rate
        self._metrics = metrics
        self._login_api_url = login_api_url

    def is_quick(self, path: str, blocks: BlockList, *, zipped: bool) -> bool:
        """Whether a GET of that path, without parameters, is but a look into memory."""
        kind = _LISTS.get(path)
        if kind is not None:
            return self._lists.is_made(kind, blocks, zipped=zipped)
        return path.startswith(_ONE_SUBJECT)

    def listed(self, kind: SubjectType) -> Response:
        """Everybody of a type, or a page of them."""
        self._count_list()
        limit = asked.whole_number("limit", least=1, most=asked.MOST_ON_A_PAGE)
        if limit is None and "cursor" not in request.args:
            state, version, packed = self._lists.names(kind)
            return self._packed(state, version, packed)
        after = asked.name_cursor()
        state, (version, (names, more)) = self._present.read(
            lambda blocks: (
                blocks.version,
                blocks.page(kind, limit or asked.MOST_ON_A_PAGE, after),
            )
        )
        document = {FIELDS[kind]: names, "next": asked.write_cursor(names[-1]) if more else None}
        return self._told(document, state, version)

    def one(self, kind: SubjectType, text: str) -> Response:
        """One subject's blocks."""
        subject = asked.subject(kind, text)
        state, (version, blocks) = self._present.read(
            lambda blocks: (blocks.version, blocks.get(subject))
        )
        if not blocks:
            return self._told({"error": "Not blocked"}, state, version, 404)
        document = {
            "subject_type": subject.type,
            "subject": subject.key,
            "blocked_until": told_until(blocks[0]),
            **blocks[0].document(),
            "blocks": [block.document() for block in blocks],
        }
        return self._told(document, state, version)

    def check(self) -> Response:
        """Who of many is blocked."""
        subjects = asked.checked()
        state, (version, found) = self._present.read(
            lambda blocks: (
                blocks.version,
                [(text, subject, blocks.get(subject)) for subject, text in subjects],
            )
        )
        blocked = [
            {
                "subject_type": subject.type,
                "subject": text,
                "blocked_until": told_until(live[0]),
                "rule": live[0].rule,
            }
            for text, subject, live in found
            if live
        ]
        return self._told({"blocked": blocked}, state, version)

    def changes(self) -> Response:
        """All blocks, or what differs since a version."""
        self._count_list()
        since = request.args.get("since")
        if since is None:
            state, version, packed = self._lists.full()
            return self._packed(state, version, packed)
        try:
            known = Version.parse(since)
        except ValueError:
            raise BadRequest("since: not a version") from None
        state, (version, delta) = self._present.read(
            lambda blocks: (blocks.version, blocks.since(known))
        )
        if delta is None:
            error = "This version is too old or of another list: take /blocked/changes whole"
            return self._told({"error": error}, state, version, 410)
        return self._told(delta.document(version), state, version)

    def subjects(self) -> Response:
        """Blocked subjects for people: searched, filtered, the newest first."""
        self._count_list()
        limit = asked.whole_number("limit", least=1, most=_MOST_FOR_PEOPLE) or _PAGE_FOR_PEOPLE
        level = asked.whole_number("level", least=1, most=1_000_000)
        kind, after = asked.optional_type(), asked.newest_cursor()
        part = unicodedata.normalize("NFKC", request.args.get("q", "")[:256]).casefold().strip()
        state, version, items = self._newest.items()
        rule = request.args.get("rule") or None
        if after is not None:
            items = items[bisect_right(items, after, key=newest_first) :]
        found = matching(items, subject_type=kind, part=part, rule=rule, level=level)
        page = list(islice(found, limit + 1))
        more = len(page) > limit
        document = {
            "subjects": [summary_of(*item) for item in page[:limit]],
            "next": asked.write_cursor(newest_first(page[limit - 1])) if more else None,
        }
        return self._told(document, state, version)

    def history(self) -> Response:
        """What happened to a subject, as far as the changes reach back."""
        self._count_list()
        subject = asked.one_subject()
        state, (version, events) = self._present.read(
            lambda blocks: (blocks.version, blocks.history(subject)[:_MOST_EVENTS])
        )
        document = {
            "subject_type": subject.type,
            "subject": subject.key,
            "events": [event.document() for event in events],
        }
        return self._told(document, state, version)

    def summary(self) -> Response:
        """How things stand, for people."""
        self._count_list()
        state, version, document = summary(self._present, self._login_api_url)
        return self._told(document, state, version)

    def readiness(self) -> Response:
        """Whether answers can be had, and whether the list is whole. Raises as reading does."""
        state, version = self._present.read(lambda blocks: blocks.version)
        document = {"redis": "ok", "list": state.status(self._present.now())}
        return self._told(document, state, version)

    def note_metrics(self) -> None:
        """Brings the figures about the list up to date. Raises as reading does."""

        def look(blocks: BlockList) -> tuple[dict[str, int], dict[str, int]]:
            return {kind: blocks.count(kind) for kind in FIELDS}, dict(blocks.by_rule)

        state, (listed, by_rule) = self._present.read(look)
        now = self._present.now()
        self._metrics.note_list(
            listed=listed,
            by_rule=by_rule,
            status=state.status(now),
            heartbeat_age_ms=state.heartbeat_age_ms(now),
            lag_ms=state.lag_ms,
        )

    def _count_list(self) -> None:
        if not self._rate.admits(self._clients.name(request.remote_addr or "", request.headers)):
            self._metrics.rate_refusals.inc()
            raise RateExceededError

    def _packed(self, state: ListState, version: Version, packed: Packed) -> Response:
        takes_gzip = len(packed.plain) >= _GZIP_FROM_BYTES and request.accept_encodings["gzip"] > 0
        tag = f"{packed.tag}-gzip" if takes_gzip else packed.tag
        known = request.if_none_match
        if known.contains_weak(packed.tag) or known.contains_weak(f"{packed.tag}-gzip"):
            response = Response(status=304)
        else:
            body = packed.gzipped if takes_gzip else packed.plain
            response = Response(body, content_type="application/json")
            if takes_gzip:
                response.headers["Content-Encoding"] = "gzip"
        response.set_etag(tag)
        response.headers["Cache-Control"] = "no-cache"  # kept, and asked for again
        response.headers["Vary"] = "Accept-Encoding"
        return self._with_state(response, state, version)

    def _told(
        self, document: object, state: ListState, version: Version, status: int = 200
    ) -> Response:
        body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        response = Response(status=status, content_type="application/json")
        if len(body) >= _GZIP_ONCE_FROM_BYTES:
            response.headers["Vary"] = "Accept-Encoding"
            if request.accept_encodings["gzip"] > 0:
                body = gzip_bytes(body)
                response.headers["Content-Encoding"] = "gzip"
        response.set_data(body)
        return self._with_state(response, state, version)

    def _with_state(self, response: Response, state: ListState, version: Version) -> Response:
        response.headers["Block-List-Version"] = str(version)
        response.headers["Block-List-Status"] = state.status(self._present.now())
        return response


def add_calls(app: Flask, calls: Calls) -> None:
    """The routes; `<rest:…>` is the rest of the path, whatever it holds."""
    app.add_url_rule("/blocked", "users", lambda: calls.listed("user"))
    app.add_url_rule("/blocked/ips", "ips", lambda: calls.listed("ip"))
    app.add_url_rule("/blocked/users/<rest:name>", "user", lambda name: calls.one("user", name))
    app.add_url_rule("/blocked/ips/<rest:address>", "ip", lambda address: calls.one("ip", address))
    app.add_url_rule("/blocked/check", "check", calls.check, methods=["POST"])
    app.add_url_rule("/blocked/changes", "changes", calls.changes)
    app.add_url_rule("/blocked/subjects", "subjects", calls.subjects)
    app.add_url_rule("/blocked/history", "history", calls.history)
    app.add_url_rule("/blocked/summary", "summary", calls.summary)
