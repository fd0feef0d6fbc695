import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from login_blocking.attempts import Attempt, Outcome
from tools.recordings import Format, Reading, Recording, RecordingError, read, read_recording

DATA = Path(__file__).parents[2] / "data"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAILURE, SUCCESS = Outcome.FAILURE, Outcome.SUCCESS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def written(folder: Path, *lines: str) -> Path:
    path = folder / "recording"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


def told(recording: Recording) -> list[tuple[str | None, str | None, Outcome]]:
    return [(attempt.user, attempt.ip, attempt.outcome) for attempt in recording.attempts]


def row(**fields: object) -> str:
    return json.dumps({"ts": 1_760_000_000_000, "user": "a", "ip": None, "success": False} | fields)


# This project's own form


def test_real_recording_has_the_figures_of_its_readme() -> None:
    recording = read(DATA / "elastic_examples_auth.ndjson.gz")

    attempts = recording.attempts
    assert recording.format is Format.NDJSON
    assert len(attempts) == 1_264
    assert len({attempt.user for attempt in attempts} - {None}) == 30
    assert len({attempt.ip for attempt in attempts}) == 106
    assert sum(attempt.user is None for attempt in attempts) == 43
    assert round(100 * sum(a.outcome is FAILURE for a in attempts) / len(attempts)) == 82


def test_ids_are_the_same_at_each_reading_and_differ(folder: Path) -> None:
    path = written(folder, row(), row(), row())

    assert read(path).attempts == read(path).attempts
    assert len({attempt.id for attempt in read(path).attempts}) == 3


def test_wire_form_keeps_its_id_and_outcome(folder: Path) -> None:
    attempt = Attempt("an-id", 1, "alice", "192.0.2.1", Outcome.BLOCKED)

    assert read_recording(written(folder, attempt.encode().decode())) == [attempt]


def test_users_and_addresses_are_put_into_normal_form(folder: Path) -> None:
    path = written(folder, row(user=" ALICE ", ip="2001:DB8::1"), row(ip="::ffff:192.0.2.1"))

    assert [(a.user, a.ip) for a in read_recording(path)] == [
        ("alice", "2001:db8::/64"),
        ("a", "192.0.2.1"),
    ]


def test_name_nobody_can_have_still_counts_for_its_address(folder: Path) -> None:
    path = written(folder, row(user=" ", ip="192.0.2.1"), row(user="a\x00b", ip="192.0.2.1"))

    assert [(a.user, a.ip) for a in read_recording(path)] == [(None, "192.0.2.1")] * 2


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"ts":1}',
        row(ts="1"),
        row(ts=1.5),
        row(ts=True),
        row(ts=-1),
        row(ts=10**18),
        row(user=None),
        row(user=7),
        row(ip="no address"),
        row(success="no"),
        row(success=0),
        '{"v":2}',
        "[]",
        "[" * 100_000,
    ],
)
def test_line_that_is_no_attempt_is_named_with_file_and_number(folder: Path, line: str) -> None:
    path = written(folder, row(), "", line)

    with pytest.raises(RecordingError, match=r"recording, line 3: no attempt \("):
        read(path)


def test_half_a_gzip_file_is_refused(folder: Path) -> None:
    path = folder / "half.gz"
    path.write_bytes(gzip.compress(row().encode() * 99)[:-9])

    with pytest.raises(RecordingError, match="not a whole gzip file"):
        read(path)


def test_gzip_is_known_by_its_content_not_its_name(folder: Path) -> None:
    path = folder / "recording"
    path.write_bytes(gzip.compress(row().encode()))

    assert len(read(path).attempts) == 1


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), ("hello\n", "say --format")])
def test_unknown_format_is_refused(folder: Path, text: str, reason: str) -> None:
    path = folder / "recording"
    path.write_text(text)

    with pytest.raises(RecordingError, match=reason):
        read(path)


# OpenSSH

ELASTIC = """\
Mar 31 01:20:58 ip-10-77-20-248 sshd[17161]: Accepted password for elastic_user_6 from 85.245.107.41 port 60944 ssh2
Mar 31 01:20:59 ip-10-77-20-248 sshd[17200]: Disconnected from 85.245.107.41 port 60944
Mar 31 01:33:18 ip-10-77-20-248 sshd[17211]: Accepted password for elastic_user_7 from 85.245.107.41 port 60980 ssh2
Mar 31 01:33:18 ip-10-77-20-248 systemd-logind[1118]: Removed session 258.
Mar 31 01:35:14 ip-10-77-20-248 sshd[17262]: Invalid user admin from 122.189.198.238
Mar 31 01:35:14 ip-10-77-20-248 sshd[17262]: input_userauth_request: invalid user admin [preauth]
Mar 31 01:35:14 ip-10-77-20-248 sshd[17262]: pam_unix(sshd:auth): check pass; user unknown
Mar 31 01:35:16 ip-10-77-20-248 sshd[17262]: Failed password for invalid user admin from 122.189.198.238 port 43749 ssh2
Mar 31 01:35:18 ip-10-77-20-248 sshd[17262]: Failed password for invalid user admin from 122.189.198.238 port 43749 ssh2
Mar 31 01:35:21 ip-10-77-20-248 sshd[17262]: Failed password for invalid user admin from 122.189.198.238 port 43749 ssh2
Mar 31 01:35:23 ip-10-77-20-248 sshd[17262]: Failed password for invalid user admin from 122.189.198.238 port 43749 ssh2
Mar 31 01:35:26 ip-10-77-20-248 sshd[17262]: Failed password for invalid user admin from 122.189.198.238 port 43749 ssh2
Mar 31 01:35:28 ip-10-77-20-248 sshd[17262]: Failed password for invalid user admin from 122.189.198.238 port 43749 ssh2
Mar 31 01:35:28 ip-10-77-20-248 sshd[17262]: error: maximum authentication attempts exceeded for invalid user admin from 122.189.198.238 port 43749 ssh2 [preauth]
Mar 31 01:35:28 ip-10-77-20-248 sshd[17262]: PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=122.189.198.238
Mar 31 01:52:28 ip-10-77-20-248 sshd[17275]: Failed password for elastic_user_9 from 85.245.107.41 port 61038 ssh2
Mar 31 02:09:26 ip-10-77-20-248 sshd[17288]: Accepted password for elastic_user_1 from 85.245.107.41 port 61117 ssh2
""".splitlines()  # noqa: E501 — as elastic/examples has them (tests/data/README.md)


def test_real_log_gives_what_the_recording_made_of_it_holds(folder: Path) -> None:
    recorded = read(DATA / "elastic_examples_auth.ndjson.gz").attempts
    first, last = ms("2017-03-31T01:20:58Z"), ms("2017-03-31T02:09:26Z")

    recording = read(written(folder, *ELASTIC), how=Reading(year=2017))

    assert [(a.ts, a.user, a.outcome) for a in recording.attempts] == [
        (a.ts, a.user, a.outcome) for a in recorded if first <= a.ts <= last
    ]
    assert {a.ip for a in recording.attempts} == {"85.245.107.41", "122.189.198.238"}
    assert recording.format is Format.AUTH_LOG
    assert (recording.other_lines, recording.unreadable_lines) == (7, 0)


def ssh(message: str, stamp: str = "Feb  3 10:00:00", tag: str = "sshd[7]") -> str:
    return f"{stamp} host {tag}: {message}"


def from_log(folder: Path, *lines: str, year: int | None = None) -> Recording:
    return read(written(folder, *lines), Format.AUTH_LOG, Reading(year=year, now=NOW))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Failed password for root from 192.0.2.1 port 22 ssh2", ("root", "192.0.2.1", FAILURE)),
        (
            "Failed password for invalid user Admin from 2001:db8:0:1::9 port 22 ssh2",
            ("admin", "2001:db8:0:1::/64", FAILURE),
        ),
        (
            "Failed keyboard-interactive/pam for bob from ::ffff:192.0.2.1 port 22 ssh2",
            ("bob", "192.0.2.1", FAILURE),
        ),
        (
            "Accepted publickey for bob from fe80::1%eth0 port 22 ssh2: RSA SHA256:AbC",
            ("bob", "fe80::/64", SUCCESS),
        ),
        (
            (
                "Accepted publickey for bob from 192.0.2.1 port 22 ssh2: ED25519-CERT SHA256:AbC"
                " ID x from 192.0.2.9 port 9 ssh2 (serial 0) CA RSA SHA256:D"
            ),
            ("bob", "192.0.2.1", SUCCESS),
        ),
        (
            "Failed password for invalid user  from 192.0.2.1 port 22 ssh2",
            (None, "192.0.2.1", FAILURE),
        ),
        (
            "Failed password for invalid user a b  c from 192.0.2.1 port 22 ssh2",
            ("a b  c", "192.0.2.1", FAILURE),
        ),
        (
            "Failed password for invalid user x from 1.2.3.4 port 22 from 5.6.7.8 port 99 ssh2",
            ("x from 1.2.3.4 port 22", "5.6.7.8", FAILURE),
        ),
        (
            (
                "Failed password for invalid user x from 1.2.3.4 port 22 ssh2: RSA from 5.6.7.8"
                " port 99 ssh2"
            ),
            ("x from 1.2.3.4 port 22 ssh2: rsa", "5.6.7.8", FAILURE),
        ),
        (
            (
                "Failed password for invalid user Accepted password for root from 1.2.3.4 port 2"
                " ssh2 from 5.6.7.8 port 99 ssh2"
            ),
            ("accepted password for root from 1.2.3.4 port 2 ssh2", "5.6.7.8", FAILURE),
        ),
        (
            r"Failed password for invalid user jos\303\251\\n from 192.0.2.1 port 22 ssh2",
            (r"josé\n", "192.0.2.1", FAILURE),
        ),
        (
            "Failed password for alice from dialup.example.org port 22 ssh2",
            ("alice", None, FAILURE),
        ),
    ],
)
def test_message_of_sshd(
    folder: Path, message: str, expected: tuple[str | None, str | None, Outcome]
) -> None:
    assert told(from_log(folder, ssh(message))) == [expected]


@pytest.mark.parametrize(
    "message",
    [
        "Invalid user admin from 192.0.2.1 port 22",
        "Invalid user x Failed password for root from 192.0.2.1 port 22 ssh2 from 192.0.2.1",
        "error: maximum authentication attempts exceeded for root from 192.0.2.1 port 2 ssh2 [pre]",
        "Failed publickey for root from 192.0.2.1 port 22 ssh2: RSA SHA256:AbC",
        "Failed none for invalid user 0 from 192.0.2.1 port 22 ssh2",
        "message repeated 2 times: [ Connection closed by 192.0.2.1 [preauth]]",
        "last message repeated 3 times",
    ],
)
def test_message_that_is_no_checked_password_is_passed_over(folder: Path, message: str) -> None:
    recording = from_log(folder, ssh(message))

    assert (recording.attempts, recording.other_lines, recording.unreadable_lines) == ([], 1, 0)


@pytest.mark.parametrize(
    "line",
    [
        ssh("Failed password for root from 192.0.2.1"),
        ssh("Failed password for root from"),
        ssh("Accepted password for"),
        ssh("Failed password for invalid user  from nowhere port 22 ssh2"),
        ssh("Failed password for root from 192.0.2.1 port 22 ssh2", stamp="Feb 31 10:00:00"),
        ssh("Failed password for root from 192.0.2.1 port 22 ssh2", stamp="Feb  3 25:00:00"),
        ssh("Failed password for root from 192.0.2.1 port 22 ssh2", stamp="Foo  3 10:00:00"),
        ssh("Failed password for root from 192.0.2.1 port 2 ssh2", stamp="2026-13-01T00:00:00Z"),
        ssh(
            "message repeated 999999999 times: [ Failed password for a from 192.0.2.1 port 2 ssh2]"
        ),
        ssh("message repeated 0 times: [ Failed password for a from 192.0.2.1 port 2 ssh2]"),
    ],
)
def test_line_cut_off_or_impossible_is_counted_as_unreadable(folder: Path, line: str) -> None:
    recording = from_log(folder, line)

    assert (recording.attempts, recording.other_lines, recording.unreadable_lines) == ([], 0, 1)


def test_only_sshd_is_believed(folder: Path) -> None:
    message = "Failed password for root from 192.0.2.1 port 22 ssh2"
    lines = [
        ssh(message, tag="sudo"),
        ssh(f"sshd[7]: {message}", tag="logger"),
        message,
        ssh(message, tag="sshd-session[9]"),
        ssh(message, tag="sshd"),
    ]

    recording = from_log(folder, *lines)

    assert (len(recording.attempts), recording.other_lines) == (2, 3)


def test_repeated_message_counts_as_often_as_it_says(folder: Path) -> None:
    # loghub's OpenSSH_2k: six attempts in two lines.
    lines = [
        "Dec 10 07:13:43 LabSZ sshd[24227]: Failed password for root from 5.36.59.76 port 4 ssh2",
        (
            "Dec 10 07:13:56 LabSZ sshd[24227]: message repeated 5 times: [ Failed password for"
            " root from 5.36.59.76 port 4 ssh2]"
        ),
    ]

    recording = from_log(folder, *lines)

    assert told(recording) == [("root", "5.36.59.76", FAILURE)] * 6
    assert len({attempt.id for attempt in recording.attempts}) == 6
    assert recording.attempts[5].ts - recording.attempts[0].ts == 13_000


def test_last_message_of_older_syslogs_counts_only_right_after_an_attempt(folder: Path) -> None:
    lines = [
        ssh("Failed password for root from 192.0.2.1 port 4 ssh2"),
        "Feb  3 10:00:09 host last message repeated 2 times",
        "Feb  3 10:00:19 host last message repeated 1 time",
        ssh("Connection closed"),
        "Feb  3 10:00:29 host last message repeated 2 times",
    ]

    assert len(from_log(folder, *lines).attempts) == 4


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2024-03-10T09:12:44.123456+01:00", "2024-03-10T08:12:44.123Z"),
        ("2024-03-10T09:12:44+0100", "2024-03-10T08:12:44Z"),
        ("2024-03-10T09:12:44Z", "2024-03-10T09:12:44Z"),
        ("2024-03-10T09:12:44", "2024-03-10T09:12:44Z"),
        ("<38>Feb  3 10:00:00", "2026-02-03T10:00:00Z"),
        ("Dec 31 10:00:00", "2025-12-31T10:00:00Z"),
        ("Mar  2 11:00:00", "2026-03-02T11:00:00Z"),
        ("Mar  2 13:00:00", "2025-03-02T13:00:00Z"),
        ("Feb 29 10:00:00", "2024-02-29T10:00:00Z"),
    ],
)
def test_stamp_is_never_in_the_future(folder: Path, stamp: str, expected: str) -> None:
    line = ssh("Failed password for root from 192.0.2.1 port 22 ssh2", stamp=stamp)

    assert from_log(folder, line).attempts[0].ts == ms(expected)


@pytest.mark.parametrize(("year", "first"), [(None, 2025), (2019, 2019)])
def test_stamps_without_year_go_on_over_new_year(
    folder: Path, year: int | None, first: int
) -> None:
    lines = [
        ssh("Failed password for root from 192.0.2.1 port 22 ssh2", stamp=stamp)
        for stamp in ("Dec 31 23:59:59", "Jan  1 00:00:00", "Dec 31 23:59:58", "Jan  2 00:00:00")
    ]

    attempts = from_log(folder, *lines, year=year).attempts

    assert [attempt.ts for attempt in attempts] == [
        ms(f"{first}-12-31T23:59:59Z"),
        ms(f"{first + 1}-01-01T00:00:00Z"),
        ms(f"{first}-12-31T23:59:58Z"),
        ms(f"{first + 1}-01-02T00:00:00Z"),
    ]


def test_day_that_the_year_has_not_is_refused(folder: Path) -> None:
    line = ssh("Failed password for a from 192.0.2.1 port 22 ssh2", stamp="Feb 29 10:00:00")

    with pytest.raises(RecordingError, match="line 1: no such day in the year 2025"):
        from_log(folder, line, year=2025)


def test_stamp_without_zone_is_of_the_zone_told(folder: Path) -> None:
    line = ssh("Failed password for a from 192.0.2.1 port 22 ssh2", stamp="Jul  1 12:00:00")
    how = Reading(year=2024, zone=ZoneInfo("Europe/Berlin"))

    assert read(written(folder, line), how=how).attempts[0].ts == ms("2024-07-01T10:00:00Z")


def test_log_from_journalctl_is_recognised_after_its_first_line(folder: Path) -> None:
    line = ssh("Failed password for a from 192.0.2.1 port 22 ssh2", "2024-03-10T09:12:44+0100")

    recording = read(written(folder, "-- Logs begin at Sun 2024-03-10 09:12:44 CET. --", line))

    assert (recording.format, len(recording.attempts)) == (Format.AUTH_LOG, 1)


def test_bytes_that_are_no_utf8_make_different_names(folder: Path) -> None:
    path = folder / "log"
    path.write_bytes(
        b"".join(
            b"Feb  3 10:00:00 h sshd[1]: Failed password for " + name + b" from ::1 port 2 ssh2\n"
            for name in (b"\xe9", b"\xe8")
        )
    )

    assert len({attempt.user for attempt in read(path).attempts}) == 2


# Web servers


def request(
    text: str = "POST /login HTTP/1.1", status: int = 401, user: str = "-", ip: str = "192.0.2.1"
) -> str:
    return f'{ip} - {user} [10/Oct/2024:13:55:36 -0700] "{text}" {status} 71 "-" "curl/8.5.0"'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (request(), (None, "192.0.2.1", FAILURE)),
        (request(status=403, user="Frank"), ("frank", "192.0.2.1", FAILURE)),
        (request(status=302, ip="2001:db8::1"), (None, "2001:db8::/64", SUCCESS)),
        (request(text="POST /login/?next=/a HTTP/2.0"), (None, "192.0.2.1", FAILURE)),
        (request(text="POST /%6Cogin HTTP/1.1"), (None, "192.0.2.1", FAILURE)),
        (request(text="POST http://a.example/login HTTP/1.1"), (None, "192.0.2.1", FAILURE)),
        (request().partition(' "-"')[0], (None, "192.0.2.1", FAILURE)),
        (request(user=r"jos\xC3\xA9 x"), ("josé x", "192.0.2.1", FAILURE)),
        (
            request(
                user=r"x [01/Jan/2020:00:00:00 +0000] \x22POST /login HTTP/1.1\x22 200 5",
                status=401,
            ),
            (
                'x [01/jan/2020:00:00:00 +0000] "post /login http/1.1" 200 5',
                "192.0.2.1",
                FAILURE,
            ),
        ),
    ],
)
def test_login_in_an_access_log(
    folder: Path, line: str, expected: tuple[str | None, str | None, Outcome]
) -> None:
    recording = read(written(folder, request(text="GET / HTTP/1.1", status=200), line))

    assert recording.format is Format.ACCESS_LOG
    assert told(recording) == [expected]
    assert recording.attempts[0].ts == ms("2024-10-10T20:55:36Z")
    assert recording.other_lines == 1


@pytest.mark.parametrize(
    "line",
    [
        request(text="GET /login HTTP/1.1"),
        request(text="POST /logins HTTP/1.1"),
        request(text="POST /a/login HTTP/1.1"),
        request(text="POST /search?q=/login HTTP/1.1"),
        request(text=r"GET / HTTP/1.1\x22 200 5 \x22POST /login HTTP/1.1"),
        request(text=r"\x16\x03\x01"),
        request(text="-"),
        request(status=500),
        request(status=429),
        "no line of an access log",
    ],
)
def test_other_requests_are_passed_over(folder: Path, line: str) -> None:
    recording = read(written(folder, line), Format.ACCESS_LOG)

    assert (recording.attempts, recording.other_lines, recording.unreadable_lines) == ([], 1, 0)


def test_path_and_status_are_as_told(folder: Path) -> None:
    how = Reading(
        login_path="/wp-login.php",
        failure_status=frozenset({200}),
        success_status=frozenset({302}),
    )
    lines = [
        request(text="POST /wp-login.php HTTP/1.1", status=status) for status in (200, 302, 401)
    ]

    assert [a.outcome for a in read(written(folder, *lines), how=how).attempts] == [
        FAILURE,
        SUCCESS,
    ]


@pytest.mark.parametrize(
    "line", [request(ip="proxy.example"), request().replace("Oct", "Foo"), request(ip="1.2.3.4.5")]
)
def test_login_without_address_or_time_is_unreadable(folder: Path, line: str) -> None:
    assert read(written(folder, line), Format.ACCESS_LOG).unreadable_lines == 1


# CSV


@pytest.mark.parametrize(
    "lines",
    [
        ["ts,user,ip,success", "1760000000123,Alice,192.0.2.1,true"],
        ["time;username;addr;ok", "1760000000.123;ALICE;192.0.2.1;1"],
        [
            "\ufeffTimestamp\tUser Name\tsource-ip\tResult",
            "2025-10-09T08:53:20.123Z\talice\t192.0.2.1\tok",
        ],
        [
            "index,Login Timestamp,User ID,Round-Trip Time [ms],IP Address,Login Successful",
            "0,2025-10-09 08:53:20.123,alice,,192.0.2.1,True",
        ],
        ['"outcome","ip","note","user","ts"', 'success,192.0.2.1,"a, b","alice",1760000000123'],
    ],
)  # fmt: skip
def test_columns_are_found_by_their_usual_names(folder: Path, lines: list[str]) -> None:
    recording = read(written(folder, *lines))

    assert recording.format is Format.CSV
    assert told(recording) == [("alice", "192.0.2.1", SUCCESS)]
    assert recording.attempts[0].ts == 1_760_000_000_123


def test_columns_are_as_told(folder: Path) -> None:
    path = written(folder, "a,b,c,d,user", "1760000000,bob,::1,failed,nobody")
    how = Reading(columns={"ts": "a", "user": "b", "ip": "c", "success": "d"})

    assert told(read(path, Format.CSV, how)) == [("bob", "::/64", FAILURE)]


def test_row_may_lack_user_or_address(folder: Path) -> None:
    path = written(folder, "ts,user,ip,success", "1760000000,-,::1,0", "1760000000,bob,NULL,0", "")

    assert told(read(path)) == [(None, "::/64", FAILURE), ("bob", None, FAILURE)]


@pytest.mark.parametrize(
    "line",
    [
        "1760000000,,,0",
        "1760000000,bob,::1",
        "1760000000,bob,::1,0,more",
        "1760000000,bob,::1,maybe",
        "1760000000,bob,host.example,0",
        "20251009,bob,::1,0",
        "yesterday,bob,::1,0",
        "NaN,bob,::1,0",
        "1e99,bob,::1,0",
        ",bob,::1,0",
        '1760000000,"bob,::1,0',
        '1760000000,"b"ob,::1,0',
    ],
)
def test_row_that_is_no_attempt_is_named(folder: Path, line: str) -> None:
    path = written(folder, "ts,user,ip,success", '1760000000,"a\nb",::1,0', line)

    with pytest.raises(RecordingError, match="recording, line 4: no attempt"):
        read(path, Format.CSV)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("ts,user,ip", "no column for success among 'ts', 'user', 'ip'"),
        ("a,b", "no column for ts, success, user or ip"),
    ],
)
def test_missing_columns_are_named(folder: Path, header: str, reason: str) -> None:
    with pytest.raises(RecordingError, match=reason):
        read(written(folder, header), Format.CSV)


def test_column_told_but_not_there_is_refused(folder: Path) -> None:
    path = written(folder, "ts,user,ip,success")

    with pytest.raises(RecordingError, match="line 1: no column 'when'; there are 'ts', 'user'"):
        read(path, Format.CSV, Reading(columns={"ts": "when"}))
