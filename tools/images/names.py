"""What the images are called, and what they are built from."""

import tomllib
from typing import Final

from tools.stack.layout import ROOT

FOLDERS: Final = {"login-api": "login_api", "blocked-api": "blocked_api", "flink": "flink_jobs"}
"""Image → folder of its Dockerfile."""
BASES: Final = {
    "PYTHON_IMAGE": "python:3.11-slim-bookworm",
    "MAVEN_IMAGE": "maven:3.9-eclipse-temurin-17",
    "FLINK_IMAGE": "flink:2.2.1-java17",
}
"""Build argument → the public image that it is by default in the Dockerfiles."""


def version() -> str:
    """The project's, which is the images' tag."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def tag(image: str) -> str:
    """Name and version, without a registry: `login-blocking/login-api:0.1.0`."""
    return f"login-blocking/{image}:{version()}"
