"""`python -m tools.images build|verify|sbom`: see docs/images.md."""

import argparse
import subprocess
import sys

from tools.images import stand_ins
from tools.images.engine import Engine, EngineError, certificate_volumes, find_engine
from tools.images.names import BASES, FOLDERS, tag, version
from tools.images.sbom import write_sboms
from tools.images.verify import verify
from tools.stack.layout import ROOT


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 with a message if something cannot be done."""
    parser = argparse.ArgumentParser(prog="tools.images", description=__doc__)
    parser.add_argument("what", choices=["build", "verify", "sbom"])
    parser.add_argument("images", nargs="*", help=f"of {', '.join(FOLDERS)}; none: all")
    parser.add_argument("--stand-in", action="store_true", help="do not ask for public bases")
    given = parser.parse_args(arguments)
    try:
        engine = find_engine()
        match given.what:
            case "build":
                build(engine, given.images or list(FOLDERS), stand_in=given.stand_in)
            case "sbom":
                write_sboms(engine)
            case _:
                return 0 if verify(engine) else 1
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def build(engine: Engine, images: list[str], *, stand_in: bool) -> None:
    """Builds images, on public bases where they can be had."""
    bases = _bases(engine, stand_in=stand_in)
    arguments = {"VERSION": version(), "REVISION": _revision(), **bases}
    for image in images:
        print(f"· {tag(image)}", flush=True)
        engine.build_image(
            ROOT / FOLDERS[image] / "Dockerfile", ROOT, engine.local(tag(image)), arguments,
            certificate_volumes(java=image == "flink"),
        )  # fmt: skip


def _bases(engine: Engine, *, stand_in: bool) -> dict[str, str]:
    if not stand_in and all(engine.can_pull(image) for image in BASES.values()):
        print(f"Building with {engine.name} on the public bases")
        return {}
    print(f"Building with {engine.name} on stand-in bases: no registry gives the public ones")
    return stand_ins.make_stand_ins(engine, BASES)


def _revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
