"""The settings that people deploy with, by their names in the environment."""

from typing import Final

from pydantic_settings import BaseSettings

from blocked_api.settings import Settings as BlockedApiSettings
from flink_jobs.settings import Settings as DetectorSettings
from login_api.settings import Settings as LoginApiSettings

CLASSES: Final[tuple[type[BaseSettings], ...]] = (
    LoginApiSettings,
    BlockedApiSettings,
    DetectorSettings,
)
PREFIXES: Final = tuple(str(settings.model_config["env_prefix"]) for settings in CLASSES)
# What the tools set, inside a jar, for jobs beside the live one.
CARRIED_BY_JARS: Final = {
    "DETECTOR_BOUNDED",
    "DETECTOR_CLOCK",
    "DETECTOR_JOB_NAME",
    "DETECTOR_POLICY_TEXT",
}


def settings_of(settings: type[BaseSettings]) -> dict[str, object]:
    """Name in the environment → default."""
    prefix = settings.model_config["env_prefix"]
    return {
        f"{prefix}{name}".upper(): field.default for name, field in settings.model_fields.items()
    }


def deployed(settings: type[BaseSettings]) -> set[str]:
    """The names that a deployment may set."""
    return settings_of(settings).keys() - CARRIED_BY_JARS
