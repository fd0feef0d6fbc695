"""What goes into the images, read from the Dockerfiles: nothing is built here."""

import ast
import fnmatch
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.images.names import BASES, FOLDERS
from tools.images.verify import USERS

ROOT = Path(__file__).parents[3]
DOCKERFILES = {image: ROOT / folder / "Dockerfile" for image, folder in FOLDERS.items()}
STAND_INS = sorted((ROOT / "tools" / "images" / "stand_ins").glob("*.Dockerfile"))
EXTRAS = {"login-api": "login-api", "blocked-api": "blocked-api", "flink": "detector"}
CORE = "login_blocking"
# Image → the packages of ours that its Python runs; Flink's job comes in the launcher jar.
OURS = {
    "login-api": {"login_blocking", "login_api"},
    "blocked-api": {"login_blocking", "blocked_api"},
    "flink": {"login_blocking", "flink_jobs", "flink_control"},
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instruction and arguments of each, lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def stages(dockerfile: Path) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions(dockerfile):
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def copied_from_context(dockerfile: Path) -> set[str]:
    sources: set[str] = set()
    for name, arguments in instructions(dockerfile):
        words = [word for word in arguments.split() if not word.startswith("--")]
        if name == "COPY" and "--from" not in arguments:
            sources |= set(words[:-1])
    return sources


def closure(extra: str) -> set[str]:
    """The distributions that an extra brings, by what is installed here."""
    todo = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"][extra]]
    found: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found or not (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            continue
        found.add(name)
        todo += map(Requirement, importlib.metadata.requires(name) or [])
    return found


def imports_of(file: Path) -> set[str]:
    """Modules and names that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported(packages: set[str]) -> set[str]:
    """What is imported that is not ours, by top-level name; of the core only what is reached."""
    todo = [file for name in packages - {CORE} for file in (ROOT / name).glob("**/*.py")]
    seen: set[Path] = set()
    names: set[str] = set()
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        found = imports_of(file)
        names |= {name.partition(".")[0] for name in found}
        core = [ROOT / f"{name.replace('.', '/')}.py" for name in found if name.startswith(CORE)]
        todo += [module for module in core if module.is_file()]
    # _typeshed is for the type checker alone.
    return names - set(sys.stdlib_module_names) - packages - {"_typeshed"}


@pytest.mark.parametrize("dockerfile", [*DOCKERFILES.values(), *STAND_INS], ids=str)
def test_hadolint_is_content(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, dockerfile], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("image", DOCKERFILES)
def test_what_the_code_imports_the_image_has(image: str) -> None:
    distributions = importlib.metadata.packages_distributions()
    brought = closure(EXTRAS[image])
    missing = {
        name
        for name in imported(OURS[image])
        if not brought & {canonicalize_name(owner) for owner in distributions.get(name, [])}
    }

    assert missing == set()


@pytest.mark.parametrize("image", DOCKERFILES)
def test_an_image_has_the_packages_of_ours_that_it_runs_and_no_others(image: str) -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    copied = {source for source in copied_from_context(DOCKERFILES[image]) if source in listed}

    assert copied == OURS[image]


@pytest.mark.parametrize("image", DOCKERFILES)
def test_dependencies_are_those_of_the_image_s_extra_within_the_constraints(image: str) -> None:
    text = DOCKERFILES[image].read_text()

    assert re.findall(r'\["optional-dependencies"\]\["([a-z-]+)"\]', text) == [EXTRAS[image]]
    assert "-r requirements.txt -c constraints.txt" in text


@pytest.mark.parametrize("image", DOCKERFILES)
def test_the_user_is_a_number_and_not_root(image: str) -> None:
    users = [value for name, value in stages(DOCKERFILES[image])[-1] if name == "USER"]

    assert users[-1:] == [USERS[image]]
    assert not users[-1].startswith("0")


@pytest.mark.parametrize("image", DOCKERFILES)
def test_bases_are_pinned_by_tag_and_can_be_by_digest(image: str) -> None:
    found = instructions(DOCKERFILES[image])
    defaults = dict(value.split("=", 1) for name, value in found if name == "ARG" and "=" in value)
    for name, value in found:
        if name != "FROM":
            continue
        base = value.split()[0]
        argument = base.removeprefix("${").partition("_IMAGE")[0]
        assert base == f"${{{argument}_IMAGE}}${{{argument}_DIGEST:+@${{{argument}_DIGEST}}}}"
        assert defaults[f"{argument}_IMAGE"] == BASES[f"{argument}_IMAGE"]
        assert defaults[f"{argument}_DIGEST"] == ""
        assert ":" in BASES[f"{argument}_IMAGE"]
        assert not BASES[f"{argument}_IMAGE"].endswith(":latest")


@pytest.mark.parametrize("image", DOCKERFILES)
def test_nothing_is_fetched_by_add_and_the_last_stage_installs_nothing(image: str) -> None:
    assert "ADD" not in {name for name, _ in instructions(DOCKERFILES[image])}
    for name, arguments in stages(DOCKERFILES[image])[-1]:
        if name == "RUN":
            assert not re.search(r"\b(apt-get|pip install|curl|wget|mvn)\b", arguments)


@pytest.mark.parametrize("image", DOCKERFILES)
def test_it_has_a_health_check_and_labels(image: str) -> None:
    last = stages(DOCKERFILES[image])[-1]
    labels = " ".join(value for name, value in last if name == "LABEL")

    assert "HEALTHCHECK" in {name for name, _ in last}
    for label in ("title", "description", "version", "revision", "source"):
        assert f"org.opencontainers.image.{label}=" in labels


def test_images_are_of_the_versions_of_the_project() -> None:
    detector = PROJECT["project"]["optional-dependencies"]["detector"]
    flink = next(line.split("==")[1] for line in detector if line.startswith("apache-flink=="))

    assert BASES["FLINK_IMAGE"].split(":")[1].split("-")[0] == flink
    assert f"python:{PROJECT['tool']['mypy']['python_version']}-" in BASES["PYTHON_IMAGE"]


def ignored(path: str) -> bool:
    """As .dockerignore says: the last line that fits a path, or a folder above it, decides."""
    decision = False
    above = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        tails = [pattern, pattern.removeprefix("**/")] if pattern.startswith("**/") else [pattern]
        if any(
            fnmatch.fnmatchcase(one, tail) and one.count("/") >= tail.count("/")
            for one in above
            for tail in tails
        ):
            decision = not line.startswith("!")
    return decision


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".local/stack/secrets.json",
        ".env",
        "login_api/.env",
        "tests/unit/__init__.py",
        "docs/semantics.md",
        "login_api/__pycache__/app.cpython-311.pyc",
        "login_api/tls.key",
        "redis/users.acl",
        "k8s/base/secret.yaml",
        "login_api/Dockerfile",
    ],
)
def test_the_context_has_no_secret_no_history_no_test(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize(
    "path", ["pyproject.toml", "login_api/app.py", "redis/admit.lua", "policies/default.yaml"]
)
def test_the_context_has_what_images_are_made_of(path: str) -> None:
    assert not ignored(path)


@pytest.mark.parametrize("image", DOCKERFILES)
def test_what_is_copied_is_in_the_context(image: str) -> None:
    for source in copied_from_context(DOCKERFILES[image]):
        path = ROOT / source
        files = [path] if path.is_file() else [file for file in path.glob("**/*") if file.is_file()]
        assert any(not ignored(str(file.relative_to(ROOT))) for file in files), source


def test_what_the_flink_image_lends_needs_no_library_of_its_system() -> None:
    """Its Ubuntu has a newer C library than our base: what is linked against that does not load."""
    (taken,) = (words for name, words in flinks_stage() if name == "RUN")
    assert "/usr/lib" not in taken


def test_the_flink_image_s_user_is_not_who_takes_from_it() -> None:
    """The public image ends as user flink, who may not write to /; so does its stand-in."""
    names = [name for name, _ in flinks_stage()]
    assert ("USER", "0") in flinks_stage()
    assert names.index("USER") < names.index("RUN")
    stand_in = ROOT / "tools" / "images" / "stand_ins" / "flink.Dockerfile"
    assert [words for name, words in instructions(stand_in) if name == "USER"] == ["9999"]


def flinks_stage() -> list[tuple[str, str]]:
    (found,) = (it for it in stages(DOCKERFILES["flink"]) if it[0][1].endswith(" AS flink"))
    return found
