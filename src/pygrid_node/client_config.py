"""What workers are told about a training, as the uploader gives it."""

from collections.abc import Mapping
from typing import Any

from pygrid_node.errors import InvalidRequest

# Kotlin's Int, and the int32 as which iOS hands the batch size to the plan.
_LARGEST_WHOLE = 2**31 - 1
_LARGEST_FLOAT = 3.4028234e38  # float32


def with_numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `client_config` with the numbers that every phone decodes: `batch_size`, `lr`, `max_updates`.

    SwiftSyft requires all three, decodes the second as Float and the others as Int, and none from a string.
    artificienlib sends the learning rate as a string if the user gives one. So the text of a number becomes
    the number, and 2.0 becomes 2. Other fields are not changed. Raises `InvalidRequest`, naming the field.
    """
    return {
        **given,
        "batch_size": _whole(given, "batch_size"),
        "lr": _real(given, "lr"),
        "max_updates": _whole(given, "max_updates"),
    }


def _whole(given: Mapping[str, Any], key: str) -> int:
    number = _number(given, key)
    if number is None or not 1 <= number <= _LARGEST_WHOLE or number != int(number):
        raise InvalidRequest(f"{key!r} needs to be a whole number from 1 to {_LARGEST_WHOLE}")
    return int(number)


def _real(given: Mapping[str, Any], key: str) -> float:
    number = _number(given, key)
    if number is None or not abs(number) <= _LARGEST_FLOAT:
        raise InvalidRequest(f"{key!r} needs to be a number that fits into a float32")
    return number


def _number(given: Mapping[str, Any], key: str) -> float | None:
    """Return a number, or that of a text as artificienlib's plan reads it; None for anything else."""
    value = given.get(key)
    if value is None:
        raise InvalidRequest(f"{key!r} is required")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
