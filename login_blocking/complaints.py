"""What is wrong with settings, in the words of whoever sets them."""

from pydantic import ValidationError


def complaints(error: ValidationError, prefix: str) -> list[str]:
    """A line for each that is wrong, by the name of its variable; never its value.

    `prefix` is the settings' own, such as `LOGIN_API_`.
    """
    lines = []
    for detail in error.errors(include_input=False, include_url=False):
        name = prefix + "_".join(map(str, detail["loc"])).upper()
        told = detail["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {told}" if detail["loc"] else told)
    return lines
