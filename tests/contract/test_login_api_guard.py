"""The admission guard in Redis, with the rights that redis/users.acl gives, and its fake."""

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from flink_jobs.redis_writer import RedisBlockWriter
from login_api.errors import PartUnavailableError
from login_api.guard import Guard, RedisGuard, Request
from login_api.metrics import Metrics
from login_api.returns import ReturningGuard
from login_blocking.attempts import Outcome
from login_blocking.names import blocked_set
from login_blocking.names import guard as guard_key
from login_blocking.policy import Exemptions, Places, Policy, Rule
from login_blocking.subjects import Subject
from tests.support.block_entries import block, tombstone
from tests.support.login_api import InMemoryGuard
from tests.support.services import REPOSITORY, RedisServer, free_port
from tests.support.waiting import eventually

THRESHOLD = 3
WINDOW_MS = 60_000


def a_rule(name: str = "fast", *, places: Places = "any", reset: bool = False) -> Rule:
    return Rule(name, "user", "failures", THRESHOLD, WINDOW_MS, (60_000,), reset, places)


def a_policy(*rules: Rule) -> Policy:
    return Policy(rules or (a_rule(),), 86_400_000)


def a_request(user: str, place: str = "there", ip: str = "198.51.100.7") -> Request:
    return Request(str(uuid.uuid4()), user, ip, place)


@pytest.fixture
def user() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.admin() as client:
        yield client
        client.flushdb()


class Guards:
    """Guards of one Redis, each under a policy of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: list[RedisGuard] = []

    def under(self, policy: Policy, timeout_ms: int = 1_000) -> RedisGuard:
        self._made.append(RedisGuard(self._url, timeout_ms, lambda: policy))
        return self._made[-1]

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture
def guards(redis_server: RedisServer, admin: redis.Redis) -> Iterator[Guards]:
    made = Guards(redis_server.url("login_api"))
    yield made
    made.close()


@pytest.fixture(params=["in-memory", pytest.param("redis", marks=pytest.mark.service)])
def guard(request: pytest.FixtureRequest) -> Guard:
    if request.param == "in-memory":
        return InMemoryGuard(threshold=THRESHOLD)
    guards: Guards = request.getfixturevalue("guards")
    return guards.under(a_policy())


def admitted(guard: Guard, *requests: Request) -> list[bool]:
    return [guard.admit(request).refused is None for request in requests]


def test_as_many_as_the_threshold_are_admitted(guard: Guard, user: str) -> None:
    requests = [a_request(user) for _ in range(THRESHOLD + 1)]

    assert admitted(guard, *requests) == [True] * THRESHOLD + [False]


def test_a_full_guard_tells_when_it_will_be_free(guard: Guard, user: str) -> None:
    first, *_ = [guard.admit(a_request(user)) for _ in range(THRESHOLD)]

    refused = guard.admit(a_request(user))

    assert refused.refused is Outcome.LIMITED
    assert refused.until == first.now + WINDOW_MS


def test_guards_of_two_users_are_apart(guard: Guard, user: str) -> None:
    admitted(guard, *(a_request(user) for _ in range(THRESHOLD)))

    assert admitted(guard, a_request(f"{user}-other")) == [True]


@pytest.mark.parametrize("right", [True, False])
def test_a_place_that_was_given_back_is_free(guard: Guard, user: str, *, right: bool) -> None:
    requests = [a_request(user) for _ in range(THRESHOLD)]
    admitted(guard, *requests)

    if right:
        guard.succeed(requests[0], known=False)
    else:
        guard.give_back(requests[0])

    assert admitted(guard, a_request(user), a_request(user)) == [True, False]


def test_an_attempt_asked_for_twice_has_one_place(guard: Guard, user: str) -> None:
    request = a_request(user)

    assert admitted(guard, *[request] * (THRESHOLD + 1)) == [True] * (THRESHOLD + 1)
    assert admitted(guard, a_request(user)) == [True]


def test_a_place_is_known_once_a_login_from_there_was_right(guard: Guard, user: str) -> None:
    here = a_request(user, "here")
    assert not guard.admit(here).known

    guard.succeed(here, known=False)

    assert guard.admit(a_request(user, "here")).known
    assert not guard.admit(a_request(user, "there")).known


def test_forgotten_places_and_guards_are_as_new(guard: Guard, user: str) -> None:
    here = a_request(user, "here")
    guard.admit(here)
    guard.succeed(here, known=False)
    admitted(guard, *(a_request(user, "here") for _ in range(THRESHOLD)))

    guard.forget(Subject("user", user))
    guard.forget_places(user)

    admission = guard.admit(a_request(user, "here"))
    assert (admission.refused, admission.known) == (None, False)


def test_ping_answers(guard: Guard) -> None:
    guard.ping()


@pytest.mark.service
def test_of_many_at_once_exactly_the_threshold_is_admitted(guards: Guards, user: str) -> None:
    processes = [guards.under(a_policy()) for _ in range(4)]

    with ThreadPoolExecutor(32) as threads:
        asked = threads.map(lambda n: processes[n % 4].admit(a_request(user)), range(200))

    assert sum(admission.refused is None for admission in asked) == THRESHOLD


@pytest.mark.service
def test_a_place_comes_free_when_the_window_has_passed(guards: Guards, user: str) -> None:
    short = guards.under(a_policy(replace(a_rule(), within_ms=1_500)))
    assert admitted(short, *(a_request(user) for _ in range(THRESHOLD + 1)))[-1] is False

    deadline = time.monotonic() + 5
    while not admitted(short, a_request(user))[0]:
        assert time.monotonic() < deadline


@pytest.mark.service
def test_an_address_has_limits_of_its_own(guards: Guards, user: str) -> None:
    guard = guards.under(a_policy(replace(a_rule(), subject="ip")))
    requests = [a_request(f"{user}-{number}", ip="192.0.2.1") for number in range(THRESHOLD + 1)]

    assert admitted(guard, *requests) == [True] * THRESHOLD + [False]
    assert admitted(guard, a_request(user, ip="192.0.2.2")) == [True]


@pytest.mark.service
def test_who_is_exempt_has_no_limit(guards: Guards, user: str) -> None:
    policy = replace(a_policy(), exempt=Exemptions(frozenset({user})))

    assert all(admitted(guards.under(policy), *(a_request(user) for _ in range(THRESHOLD * 2))))


@pytest.mark.service
def test_of_a_rule_that_resets_a_success_forgets_the_failures(guards: Guards, user: str) -> None:
    resets, keeps = (guards.under(a_policy(a_rule(reset=reset))) for reset in (True, False))
    for guard, name in ((resets, f"{user}-a"), (keeps, f"{user}-b")):
        requests = [a_request(name) for _ in range(THRESHOLD)]
        admitted(guard, *requests)
        guard.succeed(requests[-1], known=False)
    time.sleep(0.002)  # a success forgets what came before it, not what came in its millisecond

    assert admitted(resets, *(a_request(f"{user}-a") for _ in range(THRESHOLD)))[-1] is True
    assert admitted(keeps, *(a_request(f"{user}-b") for _ in range(THRESHOLD)))[-1] is False


@pytest.mark.service
def test_strangers_do_not_fill_the_guard_of_a_known_place(guards: Guards, user: str) -> None:
    guard = guards.under(a_policy(a_rule(places="unknown"), a_rule("home", places="known")))
    home = a_request(user, "home")
    guard.admit(home)
    guard.succeed(home, known=False)

    strangers = admitted(guard, *(a_request(user, "elsewhere") for _ in range(THRESHOLD + 1)))
    at_home = admitted(guard, *(a_request(user, "home") for _ in range(THRESHOLD + 1)))

    assert strangers == at_home == [True] * THRESHOLD + [False]


@pytest.mark.service
@pytest.mark.parametrize(
    ("places", "refuses"),
    [("any", {"home", "elsewhere"}), ("unknown", {"elsewhere"}), ("known", {"home"})],
)
def test_a_block_refuses_logins_from_its_places(
    guards: Guards, redis_server: RedisServer, user: str, places: Places, refuses: set[str]
) -> None:
    guard = guards.under(a_policy())
    home = a_request(user, "home")
    guard.admit(home)
    guard.succeed(home, known=False)
    now = time.time_ns() // 1_000_000
    apply(redis_server, Subject("user", user), replace(block(now, now + 60_000), places=places))

    for place in ("home", "elsewhere"):
        admission = guard.admit(a_request(user, place))
        expected = (Outcome.BLOCKED, now + 60_000) if place in refuses else (None, None)
        assert (admission.refused, admission.until) == expected


@pytest.mark.service
def test_the_end_of_an_addresses_block_is_told(
    guards: Guards, admin: redis.Redis, user: str
) -> None:
    guard = guards.under(a_policy())
    now = time.time_ns() // 1_000_000
    admin.zadd(blocked_set("ip"), {"192.0.2.1": now + 60_000, "192.0.2.2": math.inf})
    admin.zadd(blocked_set("ip"), {"192.0.2.3": 10**18, "192.0.2.4": now - 1})

    ends = [guard.admit(a_request(user, ip=f"192.0.2.{n}")) for n in range(1, 5)]

    assert [it.until for it in ends] == [now + 60_000, None, None, None]
    assert [it.refused for it in ends] == [Outcome.BLOCKED] * 3 + [None]


@pytest.mark.service
def test_failures_that_a_block_has_consumed_count_no_longer(
    guards: Guards, redis_server: RedisServer, user: str
) -> None:
    guard = guards.under(a_policy())
    admitted(guard, *(a_request(user) for _ in range(THRESHOLD)))
    now = time.time_ns() // 1_000_000
    ended = replace(block(now - 10, now + 1), keep_until=now + 60_000)

    apply(redis_server, Subject("user", user), ended)

    deadline = time.monotonic() + 5
    while not admitted(guard, a_request(user))[0]:
        assert time.monotonic() < deadline


@pytest.mark.service
def test_a_guard_leaves_nothing_behind(guards: Guards, admin: redis.Redis, user: str) -> None:
    guard = guards.under(a_policy())
    request = a_request(user)
    guard.admit(request)

    left_ms = admin.pttl(guard_key("user", user))
    assert isinstance(left_ms, int)
    assert 0 < left_ms <= WINDOW_MS
    guard.give_back(request)
    assert not admin.exists(guard_key("user", user))


@pytest.mark.service
def test_an_admission_whose_answer_was_lost_keeps_no_place(
    guards: Guards, redis_server: RedisServer, admin: redis.Redis, user: str
) -> None:
    metrics = Metrics()
    guard = ReturningGuard(guards.under(a_policy()), metrics)
    assert admitted(guard, a_request(user)) == [True]
    redis_server.process.pause()
    try:
        for _ in range(THRESHOLD):  # Redis will read them, and take places for nobody
            with pytest.raises(PartUnavailableError):
                guard.admit(a_request(user))
    finally:
        redis_server.process.resume()

    eventually(lambda: b"returned_late_total 3.0" in metrics.exposition())
    assert admin.zcard(guard_key("user", user)) == 1
    assert admitted(guard, *(a_request(user) for _ in range(THRESHOLD))) == [True, True, False]


@pytest.mark.service
def test_a_mark_of_consumed_failures_never_lies_ahead_of_the_clock(
    guards: Guards, redis_server: RedisServer, admin: redis.Redis, user: str
) -> None:
    guard = guards.under(a_policy())
    admitted(guard, a_request(user))
    ahead = guard.clock() + 50_000

    # An unblock whose host's clock runs ahead.
    apply(redis_server, Subject("user", user), tombstone(block(ahead, ahead + 60_000), ahead))

    marks = [
        score
        for name, score in admin.zrange(guard_key("user", user), 0, -1, withscores=True)  # type: ignore[union-attr]
        if str(name).startswith("cleared:")
    ]
    assert len(marks) == 1
    assert marks[0] <= guard.clock()


@pytest.mark.service
def test_the_clock_is_that_of_redis(guards: Guards, admin: redis.Redis) -> None:
    seconds, _ = admin.time()  # type: ignore[misc]
    assert 0 <= guards.under(a_policy()).clock() - seconds * 1_000 < 2_000


@pytest.mark.service
def test_threads_that_come_and_go_leave_one_connection(
    guards: Guards, admin: redis.Redis, user: str
) -> None:
    guard = guards.under(a_policy())
    before = len(admin.client_list())  # type: ignore[arg-type]
    for _ in range(50):
        thread = threading.Thread(target=guard.admit, args=(a_request(user),))
        thread.start()
        thread.join()
    assert len(admin.client_list()) == before + 1  # type: ignore[arg-type]


@pytest.mark.service
def test_while_redis_is_frozen_only_one_in_a_while_waits_for_it(
    guards: Guards, redis_server: RedisServer, user: str
) -> None:
    guard = guards.under(a_policy(), timeout_ms=200)
    guard.ping()
    redis_server.process.pause()
    try:
        taken = [_failing_s(lambda: guard.admit(a_request(user))) for _ in range(50)]
    finally:
        redis_server.process.resume()
    assert min(taken[:3]) > 0.15
    assert sum(took > 0.15 for took in taken[3:]) <= 1
    eventually(lambda: _answers(guard.ping), within_s=5)


def _failing_s(question: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(PartUnavailableError):
        question()
    return time.monotonic() - began


def _answers(question: Callable[[], object]) -> bool:
    try:
        question()
    except PartUnavailableError:
        return False
    return True


@pytest.mark.service
def test_the_login_api_may_not_write_blocks(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url("login_api")) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.zadd(blocked_set("user"), {"alice": 1})
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.zrem(blocked_set("user"), "alice")


@pytest.mark.service
def test_connections_that_died_and_scripts_that_went_cost_no_answer(
    guards: Guards, admin: redis.Redis, user: str
) -> None:
    guard = guards.under(a_policy())
    guard.ping()
    admin.execute_command("CLIENT", "KILL", "USER", "login_api")  # type: ignore[no-untyped-call]
    admin.script_flush()

    assert admitted(guard, a_request(user)) == [True]


@pytest.mark.service
def test_no_redis_and_a_wrong_password_are_an_unavailable_part(redis_server: RedisServer) -> None:
    nobody_there = f"redis://login_api:x@127.0.0.1:{free_port()}"
    wrong = redis_server.url("login_api").replace(redis_server.passwords["login_api"], "hunter2")
    for url in (nobody_there, wrong):
        guard = RedisGuard(url, 250, a_policy)
        for call in (
            lambda guard=guard: guard.admit(a_request("alice")),
            lambda guard=guard: guard.succeed(a_request("alice"), known=False),
            lambda guard=guard: guard.forget(Subject("user", "alice")),
            guard.ping,
        ):
            with pytest.raises(PartUnavailableError, match="redis"):
                call()
        guard.close()


def apply(server: RedisServer, subject: Subject, entry: object) -> None:
    script = (REPOSITORY / "redis" / "apply_block.lua").read_text()
    writer = RedisBlockWriter(server.url("detector"), script)
    writer.apply(subject, {"fast": entry})  # type: ignore[dict-item]
    writer.close()
