"""The rules of a process, as its uploader gives them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pygrid_node.errors import InvalidRequest

# Of these an uploader may give either; a worker then measures, even against a minimum of 0.
MINIMUM_SPEEDS = ("minimum_upload_speed", "minimum_download_speed")

_MOST = 2**31 - 1  # what a column of the database holds


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The part of `server_config` that this node acts on; speeds in KB/s, the length in seconds."""

    num_cycles: int
    max_diffs: int
    cycle_length: float
    minimum_upload_speed: float
    minimum_download_speed: float
    requires_speed_test: bool
    iterative_plan: bool
    authentication: dict[str, str] | None
    given: dict[str, Any]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "ServerConfig":
        """Read the uploader's object; raises `InvalidRequest` naming the key that is missing or wrong."""
        return cls(
            num_cycles=_count(given, "num_cycles"),
            max_diffs=_count(given, "max_diffs"),
            cycle_length=_amount(given, "cycle_length"),
            minimum_upload_speed=_amount(given, "minimum_upload_speed", default=0),
            minimum_download_speed=_amount(given, "minimum_download_speed", default=0),
            requires_speed_test=any(given.get(key) is not None for key in MINIMUM_SPEEDS),
            iterative_plan=bool(given.get("iterative_plan", False)),
            authentication=_authentication(given.get("authentication")),
            given=dict(given),
        )


def _count(given: Mapping[str, Any], key: str) -> int:
    value = _amount(given, key)
    if not 1 <= value <= _MOST or value != int(value):
        raise InvalidRequest(f"{key!r} needs to be a whole number of at least 1")
    return int(value)


def _amount(given: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = given.get(key)
    if value is None:
        value = default
    if value is None:
        raise InvalidRequest(f"{key!r} is required")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidRequest(f"{key!r} needs to be a positive number")
    return value


def _authentication(given: Any) -> dict[str, str] | None:
    if not given:
        return None
    if not isinstance(given, dict) or not any(
        isinstance(given.get(key), str) for key in ("secret", "pub_key")
    ):
        # Admitting workers unchecked would be the other way out, and not what the uploader asked for.
        raise InvalidRequest("'authentication' needs a 'secret' or a 'pub_key'")
    return {key: given[key] for key in ("secret", "pub_key") if isinstance(given.get(key), str)}
