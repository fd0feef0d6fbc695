"""Keeps the stack's live job running: submits it as the web UI would, from the state it left."""

from typing import Final

from flink_control import live_job
from flink_control.rest import FlinkRest
from flink_control.snapshots import Snapshots
from tools.stack import layout
from tools.stack.layout import LOCAL, Stack

JAR: Final = LOCAL / "launcher" / "block-detector.jar"
JOB_NAME: Final = live_job.JOB_NAME


def ensure(stack: Stack) -> str:
    """Submits the live job unless it runs; from its newest snapshot if it has one."""
    submitted = submit(stack, stack.policy_file.read_text(encoding="utf-8"))
    return f"job {submitted.job_id}" + (" from its last state" if submitted.snapshot else "")


def submit(
    stack: Stack, policy_text: str, *, snapshot: str | None = None, fresh: bool = False
) -> live_job.Submitted:
    """The live job unless it runs, from that snapshot or its newest; `fresh`: from none."""
    return live_job.submit(
        FlinkRest(stack.flink_url),
        JAR,
        policy_text=policy_text,
        snapshot=snapshot,
        fresh=fresh,
        kept=snapshots(stack),
    )


def upgrade(stack: Stack, policy_text: str) -> float:
    """The live job with another policy; seconds without a judge. What is refused stops nothing."""
    try:
        upgraded = live_job.upgrade(FlinkRest(stack.flink_url), JAR, policy_text=policy_text)
    except live_job.RolledBackError as error:
        snapshots(stack).remember(error.job_id, error.savepoint)
        raise
    snapshots(stack).remember(upgraded.job_id, upgraded.savepoint)
    return upgraded.pause_s


def stop(stack: Stack) -> str | None:
    """Stops the live job with a savepoint, which the next start begins from; its path."""
    flink = FlinkRest(stack.flink_url)
    job_id = live_job.only(flink)
    if job_id is None:
        return None
    # One that was set by REST alone is in force all the same, and is at the next start.
    policy = flink.parameters(job_id).get(live_job.POLICY_PARAMETER)
    savepoint = flink.stop_with_savepoint(job_id, timeout_s=30.0)
    snapshots(stack).remember(job_id, savepoint)
    if policy:
        layout.choose_policy(stack, policy)
    return savepoint


def health(stack: Stack) -> tuple[bool, str]:
    """Whether exactly the live job runs, and in words what does."""
    well, words = live_job.health(FlinkRest(stack.flink_url, timeout_s=3.0))
    if words == live_job.NONE_RUNS:
        start = layout.make("upgrade", stack.state_dir)
        words = f"no job runs: {start} starts it from its newest state"
    return well, words


def snapshots(stack: Stack) -> Snapshots:
    """What the stack's jobs have left, and which of them was the live one."""
    return Snapshots(stack.checkpoints, stack.state_dir / "job.json")
