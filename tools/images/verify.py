"""Proves of each image what docs/images.md says: looks into it, then runs all three together."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tools.images import probe
from tools.images.containers import output_of
from tools.images.engine import Engine, EngineError
from tools.images.names import BASES, FOLDERS, tag, version
from tools.images.report import Report
from tools.images.servers import running_servers
from tools.images.together import run_together
from tools.stack.layout import ROOT

USERS: Final = {"login-api": "10001:10001", "blocked-api": "10001:10001", "flink": "9999:9999"}
_MB: Final = 1_000_000


def verify(engine: Engine) -> bool:
    """Prints what it finds, and a table of sizes; whether all was as it should be."""
    report = Report()
    for image in FOLDERS:
        _lint(image, report)
        _look_at(engine, image, report)
        _look_inside(engine, image, report)
    with tempfile.TemporaryDirectory(prefix="login-blocking-images-") as folder:
        try:
            with running_servers(Path(folder)) as stack:
                run_together(engine, stack, report)
        except EngineError as error:
            report.say("all", "run together", well=False, found=error)
    base = engine.local(BASES["PYTHON_IMAGE"])
    shared = engine.inspect(base)["Size"] if engine.has(base) else 0
    print(f"\n| image | MB | of these {base} | ours | layers |\n|---|---:|---:|---:|---:|")
    for image in FOLDERS:
        known = engine.inspect(engine.local(tag(image)))
        figures = [size / _MB for size in (known["Size"], shared, known["Size"] - shared)]
        columns = " | ".join(f"{figure:,.0f}" for figure in figures)
        print(f"| `{tag(image)}` | {columns} | {len(known['RootFS']['Layers'])} |")
    print(f"\n{report.failed} not as it should be" if report.failed else "\nall as it should be")
    return not report.failed


def _lint(image: str, report: Report) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [str(hadolint), "--no-color", str(ROOT / FOLDERS[image] / "Dockerfile")],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    report.say(image, "hadolint is content", well=not done.returncode, found=done.stdout)


def _look_at(engine: Engine, image: str, report: Report) -> None:
    known = engine.inspect(engine.local(tag(image)))
    config = known["Config"]
    report.say(image, "user", well=config["User"] == USERS[image], found=config["User"])
    labels = {name.rpartition(".")[2]: value for name, value in (config["Labels"] or {}).items()}
    named = {"title": image, "version": version()} == {
        name: labels.get(name) for name in ("title", "version")
    }
    revision = labels.get("revision", "unknown")
    report.say(image, "labels", well=named and revision != "unknown", found=f"revision {revision}")
    check = config.get("Healthcheck") or known.get("HealthCheck") or known.get("Healthcheck")
    report.say(image, "has a health check", well=bool(check))


def _look_inside(engine: Engine, image: str, report: Report) -> None:
    program = Path(probe.__file__).read_text(encoding="utf-8")
    name = engine.local(tag(image))
    found = _findings(output_of(engine, name, "python", "-c", program))
    runs_as = f"{found['uid']}:{found['gid']}"
    report.say(image, "runs as that user", well=runs_as == USERS[image], found=runs_as)
    writable = ", ".join(found["writable"])
    only_tmp = writable == "/tmp"  # noqa: S108 — the container's own
    report.say(image, "read-only, a write succeeds nowhere but in", well=only_tmp, found=writable)
    # What its user may not see counts too.
    found = _findings(output_of(engine, name, "python", "-c", program, user="0:0", hard=False))
    for what, key in (
        ("no build tool", "tools"),
        ("no setuid or setgid file", "other_rights"),
        ("nothing of the build left", "left"),
    ):
        report.say(image, what, well=not found[key], found=", ".join(found[key]))


def _findings(answer: tuple[int, str]) -> dict[str, Any]:
    status, output = answer
    if status:
        raise EngineError(f"the probe failed: {output}")
    found: dict[str, Any] = json.loads(output)
    return found
