"""deploy/flink/config.yaml against the local stack's tuned values: one system, two places."""

from pathlib import Path

import yaml

from tests.support.services import REPOSITORY
from tools.stack import prepare
from tools.stack.layout import Ports, Secrets, Stack

# Where the two differ: addresses, ports, paths; slots, for here nothing is replayed beside the job;
# the metrics' reporter, which the local stack gets by its processes' arguments; and how long a
# TaskManager may be silent, for here one may be on a machine that is gone, which refuses no call.
_OWN = (
    "rest.", "jobmanager.rpc.", "jobmanager.bind-host", "blob.", "taskmanager.host",
    "taskmanager.bind-host", "taskmanager.numberOfTaskSlots", "execution.checkpointing.dir",
    "execution.checkpointing.savepoint-dir", "python.", "web.upload.dir", "io.tmp.dirs",
    "metrics.reporter.", "env.java.opts.all", "heartbeat.timeout",
)  # fmt: skip


def test_what_is_tuned_for_the_local_stack_is_tuned_here_too() -> None:
    stack = Stack(Path("/nowhere"), Ports(), Secrets.generate())
    local = prepare._flink(stack)
    here = yaml.safe_load((REPOSITORY / "deploy" / "flink" / "config.yaml").read_text())
    common = {name: value for name, value in here.items() if not name.startswith(_OWN)}
    wanted = {name: value for name, value in local.items() if not name.startswith(_OWN)}
    assert common == wanted


def test_one_slot_a_taskmanager() -> None:
    """One interpreter, one lock of it: docs/decisions, and platform's third trap."""
    here = yaml.safe_load((REPOSITORY / "deploy" / "flink" / "config.yaml").read_text())
    assert here["taskmanager.numberOfTaskSlots"] == 1
