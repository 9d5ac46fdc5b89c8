"""The rules of a model's training, as the uploader gives them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pygrid_node.errors import InvalidRequest

_MOST = 2**31 - 1  # stands for "no limit": the largest integer of a database column

_SELECTIONS = ("random", "iterate")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The part of `server_config` that this node uses; speeds in KB/s, the length in seconds.

    `wanted` diffs end a cycle at once; `needed` diffs are enough when its time is over. A worker whose diff
    was counted is rejected until `reuse_after` cycles later.
    """

    num_cycles: int
    max_diffs: int | None
    max_workers: int | None
    wanted: int
    needed: int
    reuse_after: int
    cycle_length: float
    minimum_upload_speed: float
    minimum_download_speed: float
    iterative_plan: bool
    authentication: dict[str, str] | None
    given: dict[str, Any]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "ServerConfig":
        """Parse the uploader's object. Raises `InvalidRequest`, naming the key that is missing or wrong."""
        _check_selection(given.get("pool_selection"))
        max_diffs, max_workers = _limit(given, "max_diffs"), _limit(given, "max_workers")
        wanted = min(max_diffs or _MOST, max_workers or _MOST)
        return cls(
            num_cycles=_whole(given, "num_cycles"),
            max_diffs=max_diffs,
            max_workers=max_workers,
            wanted=wanted,
            needed=_needed(given, wanted),
            reuse_after=_whole(given, "do_not_reuse_workers_until_cycle", least=0, default=0),
            cycle_length=_length(given),
            minimum_upload_speed=_amount(given, "minimum_upload_speed", default=0),
            minimum_download_speed=_amount(given, "minimum_download_speed", default=0),
            iterative_plan=bool(given.get("iterative_plan", False)),
            authentication=_authentication(given.get("authentication")),
            given=dict(given),
        )

    @property
    def requires_speed_test(self) -> bool:
        """Whether workers must measure their speed. Any speed is enough for a minimum of 0."""
        return self.minimum_upload_speed > 0 or self.minimum_download_speed > 0

    @property
    def diffs_at_once(self) -> int | None:
        """Number of diffs that the averaging plan takes at once; None if it is iterative."""
        return None if self.iterative_plan else self.max_diffs

    def with_min_reports(self, least: int) -> "ServerConfig":
        """Return rules under which a cycle ends with at least `least` reports, and can have so many."""
        return replace(
            self,
            max_workers=None if self.max_workers is None else max(self.max_workers, least),
            wanted=max(self.wanted, least),
            needed=max(self.needed, least),
        )

    def with_all_diffs(self, min_reports: int = 1) -> "ServerConfig":
        """Return rules for a plan that takes all diffs at once: no cycle ends with fewer than `max_diffs`.

        Raises `InvalidRequest` if these rules allow fewer, or if the node averages at least `min_reports` and
        the plan takes fewer.
        """
        if self.max_diffs is None:
            raise InvalidRequest("'max_diffs' is required: the averaging plan takes all diffs at once")
        if self.max_diffs < min_reports:
            raise InvalidRequest(
                f"'max_diffs' needs to be at least {min_reports}: this node averages no fewer reports,"
                " and the averaging plan takes all diffs at once"
            )
        if self.given.get("min_diffs") not in (None, self.max_diffs):
            raise InvalidRequest(
                "'min_diffs' needs to be 'max_diffs': the averaging plan takes all diffs at once"
            )
        return ServerConfig.parse(self.given | {"min_diffs": self.max_diffs})


def _needed(given: Mapping[str, Any], wanted: int) -> int:
    """Return the least number of diffs that a cycle averages when its time is over.

    The default of `min_diffs` is `min_workers`, since a worker counts once. Uploaders often send a
    `min_workers` above `max_diffs` or `max_workers`, which then ends the cycle: artificienlib checks neither,
    and hides the error. It never sends `min_diffs`.
    """
    min_workers = _whole(given, "min_workers", least=0, default=0)
    min_diffs = _whole(given, "min_diffs", least=0, default=min(min_workers, wanted))
    if min_diffs > wanted:
        raise InvalidRequest("'min_diffs' needs to be at most 'max_diffs' and 'max_workers'")
    return max(1, min_diffs)


def _check_selection(given: Any) -> None:
    # Both mean first come, first served. A request is answered at once, so there is no pool to choose from,
    # and a device that is rejected at random has to repeat its speed test.
    if given is not None and given not in _SELECTIONS:
        raise InvalidRequest(f"'pool_selection' needs to be one of {', '.join(_SELECTIONS)}")


def _length(given: Mapping[str, Any]) -> float:
    if (seconds := _amount(given, "cycle_length")) > _MOST:
        raise InvalidRequest(f"'cycle_length' needs to be at most {_MOST} seconds")
    return seconds


def _limit(given: Mapping[str, Any], key: str) -> int | None:
    return None if given.get(key) is None else _whole(given, key)


def _whole(given: Mapping[str, Any], key: str, least: int = 1, default: int | None = None) -> int:
    value = _amount(given, key, default)
    if not least <= value <= _MOST or value != int(value):
        raise InvalidRequest(f"{key!r} needs to be a whole number of at least {least}")
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
        # The alternative is to admit workers unchecked, against the uploader's intention.
        raise InvalidRequest("'authentication' needs a 'secret' or a 'pub_key'")
    if given.get("endpoint"):
        # PyGrid asks the endpoint about every token; without it, the node would accept tokens its owner
        # revoked.
        raise InvalidRequest("'authentication' by an 'endpoint' is not supported by this node")
    return {key: given[key] for key in ("secret", "pub_key") if isinstance(given.get(key), str)}
