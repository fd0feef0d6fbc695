"""The keyed operator around `login_blocking.blocks`: it decides, this carries out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, TimerService
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

from flink_jobs import by_value
from flink_jobs.heartbeat import TICK, HeartbeatError, RedisHeartbeat, Seconds, lag_ms
from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_blocking import blocks, commands
from login_blocking.blocks import Hit, SubjectBlocks
from login_blocking.events import BlockEvent
from login_blocking.policy import Policy
from login_blocking.subjects import Subject

_RETRY_AFTER_MS = 1_000

EVENT_TYPE = Types.ROW_NAMED(["subject", "event"], [Types.STRING(), Types.STRING()])


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """Where blocks and heartbeats are written, and by which scripts."""

    url: str = field(repr=False)
    apply_block: str = field(repr=False)
    heartbeat: str = field(repr=False)
    watermark_behind_ms: int
    """How far behind the clock a watermark always is: no lag."""


def block_lifecycle(
    policy: Policy,
    redis: RedisTarget | None,
    in_time_order: bool,  # noqa: FBT001 — called by position, on the TaskManager
) -> "BlockLifecycle":
    """The operator, from what travelled."""
    return BlockLifecycle(policy, redis, in_time_order=in_time_order)


class BlockLifecycle(KeyedProcessFunction):  # type: ignore[misc]
    """Rows of hits, commands and ticks in, block event rows out; Redis is written on the way.

    A write that Redis does not take is counted and tried again every second by a timer: the state
    knows the block, so nothing is lost and nothing waits. A tick that has come all the way becomes
    a heartbeat, at most one a second and never tried again (docs/decisions/0008-heartbeat.md).
    Without Redis (history) it writes nothing, and a block's end comes by event time. In history
    `in_time_order` lets hits and commands, which come from two topics, meet in the order of their
    times, as they did live.
    """

    def __init__(
        self, policy: Policy, redis: RedisTarget | None, *, in_time_order: bool = False
    ) -> None:
        self._policy = policy
        self._redis = redis
        self._in_time_order = in_time_order

    def __reduce__(self) -> tuple[Any, ...]:
        """Built on the TaskManager from this submission's sources."""
        arguments = (self._policy, self._redis, self._in_time_order)
        return by_value.shipped(__name__, "block_lifecycle", arguments)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink before the first row."""
        self._state = runtime_context.get_state(ValueStateDescriptor("blocks", Types.STRING()))
        if self._in_time_order:
            self._early = runtime_context.get_list_state(
                ListStateDescriptor("early", Types.STRING())
            )
        self._writer: RedisBlockWriter | None = None
        self._heartbeat: RedisHeartbeat | None = None
        if self._redis is not None:
            self._writer = RedisBlockWriter(self._redis.url, self._redis.apply_block)
            self._heartbeat = RedisHeartbeat(self._redis.url, self._redis.heartbeat)
        self._seconds = Seconds()
        metrics = runtime_context.get_metrics_group()
        self._hits = metrics.counter("hits")
        self._malformed_commands = metrics.counter("malformed_commands")
        self._write_failures = metrics.counter("redis_write_failures")
        self._heartbeats = metrics.counter("heartbeats")
        self._heartbeat_failures = metrics.counter("heartbeat_failures")

    def close(self) -> None:
        """Called by Flink at the end of the job."""
        if self._writer is not None:
            self._writer.close()
        if self._heartbeat is not None:
            self._heartbeat.close()

    def process_element(
        self,
        value: Any,  # noqa: ANN401 — PyFlink's Row has no types
        ctx: KeyedProcessFunction.Context,
    ) -> Iterator[Row]:
        """One hit, one command or one tick."""
        if value[0] == TICK and value[6] is None:
            self._beat(ctx.timer_service())
            return
        if not self._in_time_order:
            yield from self._judge(value, ctx)
            return
        ts = value[3] if value[6] is None else commands.decode(value[6]).ts
        self._early.add(json.dumps([ts, *(value[n] for n in range(7))]))
        ctx.timer_service().register_event_time_timer(ts)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """A block ended, a reassertion or a second try is due: all are the same work."""
        subject_type, _, key = ctx.get_current_key().partition(":")
        subject = Subject(subject_type, key)
        after, events = blocks.on_time(self._remembered(), subject, timestamp, self._policy)
        yield from self._carry_out(subject, after, events, ctx)
        if self._in_time_order:
            waiting = sorted((json.loads(row) for row in self._early.get()), key=itemgetter(0))
            self._early.update([json.dumps(row) for row in waiting if row[0] > timestamp])
            for row in waiting:
                if row[0] <= timestamp:
                    yield from self._judge(row[1:], ctx)

    def _beat(self, timers: TimerService) -> None:
        now = timers.current_processing_time()
        if self._redis is None or self._heartbeat is None or not self._seconds.begins(now):
            return
        behind = self._redis.watermark_behind_ms
        try:
            self._heartbeat.beat(lag_ms(now, timers.current_watermark(), behind))
        except HeartbeatError:
            self._heartbeat_failures.inc()
        else:
            self._heartbeats.inc()

    def _judge(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:  # noqa: ANN401
        before = self._remembered()
        if value[6] is not None:
            yield from self._obey(value[6], before, ctx)
            return
        self._hits.inc()
        hit = Hit(Subject(value[0], value[1]), value[2], value[3], value[4], value[5])
        rule = self._policy.rule(hit.rule)
        if rule is None:
            return
        after, events = blocks.on_hit(before, hit, rule, self._policy)
        if after is not before:
            yield from self._carry_out(hit.subject, after, events, ctx)

    def _obey(
        self, text: str, before: SubjectBlocks, ctx: KeyedProcessFunction.Context
    ) -> Iterator[Row]:
        try:
            command = commands.decode(text)
        except commands.MalformedCommandError:
            self._malformed_commands.inc()
            return
        if by_value.key_of(*command.subject) != ctx.get_current_key():
            # Not in normal form: its state would be another subject's.
            self._malformed_commands.inc()
            return
        after, events = blocks.on_command(before, command, self._policy)
        if after is not before:
            yield from self._carry_out(command.subject, after, events, ctx)

    def _carry_out(
        self,
        subject: Subject,
        state: SubjectBlocks,
        events: list[BlockEvent],
        ctx: KeyedProcessFunction.Context,
    ) -> Iterator[Row]:
        if state.blocks or state.unblocked_at is not None:
            self._state.update(blocks.encode_state(state))
        else:
            self._state.clear()
        timers = ctx.timer_service()
        if self._writer is None:
            for end in blocks.open_ends(state):
                timers.register_event_time_timer(end)
        else:
            now = timers.current_processing_time()
            wakeup = blocks.next_wakeup(state, subject, now, self._policy)
            try:
                self._writer.apply(subject, blocks.redis_entries(state, now))
            except BlockWriteError:
                self._write_failures.inc()
                wakeup = now + _RETRY_AFTER_MS
            if wakeup is not None:
                timers.register_processing_time_timer(wakeup)
        for event in events:
            yield Row(event.subject, event.encode().decode())

    def _remembered(self) -> SubjectBlocks:
        text = self._state.value()
        return SubjectBlocks() if text is None else blocks.decode_state(text)
