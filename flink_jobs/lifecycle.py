"""The keyed operator around `login_blocking.blocks`: it decides, this carries out."""

from collections.abc import Iterator
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor

from flink_jobs import by_value
from flink_jobs.redis_writer import BlockWriteError, RedisBlockWriter
from login_blocking import blocks, commands
from login_blocking.blocks import Hit, SubjectBlocks
from login_blocking.events import BlockEvent
from login_blocking.policy import Policy
from login_blocking.subjects import Subject

_RETRY_AFTER_MS = 1_000

EVENT_TYPE = Types.ROW_NAMED(["subject", "event"], [Types.STRING(), Types.STRING()])


class BlockLifecycle(KeyedProcessFunction):  # type: ignore[misc]
    """Rows of hits and commands in, block event rows out; Redis is written on the way.

    A write that Redis does not take is counted and tried again every second by a timer: the state
    knows the block, so nothing is lost and nothing waits. Without a writer's address (history) it
    writes nothing, and a block's end comes by event time.
    """

    def __init__(self, policy: Policy, redis_url: str | None, script: str) -> None:
        self._policy = policy
        self._redis_url = redis_url
        self._script = script

    def __reduce__(self) -> tuple[Any, ...]:
        """Built on the TaskManager from this submission's sources."""
        return by_value.shipped(
            __name__, type(self).__name__, (self._policy, self._redis_url, self._script)
        )

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink before the first row."""
        self._state = runtime_context.get_state(ValueStateDescriptor("blocks", Types.STRING()))
        self._writer = (
            None if self._redis_url is None else RedisBlockWriter(self._redis_url, self._script)
        )
        metrics = runtime_context.get_metrics_group()
        self._hits = metrics.counter("hits")
        self._malformed_commands = metrics.counter("malformed_commands")
        self._write_failures = metrics.counter("redis_write_failures")

    def close(self) -> None:
        """Called by Flink at the end of the job."""
        if self._writer is not None:
            self._writer.close()

    def process_element(
        self,
        value: Any,  # noqa: ANN401 — PyFlink's Row has no types
        ctx: KeyedProcessFunction.Context,
    ) -> Iterator[Row]:
        """One hit, or one command."""
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

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """A block ended, a reassertion or a second try is due: all are the same work."""
        subject_type, _, key = ctx.get_current_key().partition(":")
        subject = Subject(subject_type, key)
        after, events = blocks.on_time(self._remembered(), subject, timestamp, self._policy)
        yield from self._carry_out(subject, after, events, ctx)

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
