"""A worker's way through a cycle: authenticate, get a place, report."""

import hmac
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pygrid_node.cycle_rules import is_due, may_enter, wait
from pygrid_node.diffs import check_diff, decode_diff
from pygrid_node.entities import Assignment, Cycle, Process, Worker
from pygrid_node.errors import CycleFull, InvalidRequest, InvalidRequestKey, WorkerNotFound
from pygrid_node.server_config import ServerConfig
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.models import ProcessStore
from pygrid_node.tokens import check_token
from pygrid_node.uploads import read_upload

Answer = dict[str, Any]
Message = Mapping[str, Any]

# What a worker that comes while a cycle is averaged is told to wait, in seconds.
_AVERAGING_TIME = 1


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told, in the thread of a message, that a cycle is due (its id), and that one was opened."""

    on_due: Callable[[int], None]
    on_open: Callable[[], None]


class Training:
    """The four messages of the protocol. Each takes the message's data and gives the answer's."""

    def __init__(
        self,
        processes: ProcessStore,
        cycles: CycleStore,
        listener: Listener,
        *,
        place_lifetime: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use these stores; a place that is not used lapses after `place_lifetime` seconds."""
        self._processes = processes
        self._cycles = cycles
        self._listener = listener
        self._place_lifetime = place_lifetime
        self._clock = clock

    def host(self, message: Message) -> Answer:
        """Keep a model and open its first cycle; or raise `InvalidRequest` or `AlreadyExists`."""
        self._processes.add(read_upload(message), self._clock())
        self._listener.on_open()
        return {"status": "success"}

    def authenticate(self, message: Message) -> Answer:
        """Give out a worker id, a new one each time; raises `ProcessNotFound` or `AuthenticationFailed`."""
        process = self._processes.find(message.get("model_name"), message.get("model_version"))
        check_token(process.server_config.authentication, message.get("auth_token"))
        worker = Worker(str(uuid.uuid4()), process.id)
        self._cycles.add_worker(worker)
        return {
            "status": "success",
            "worker_id": worker.id,
            "requires_speed_test": process.server_config.requires_speed_test,
        }

    def request_cycle(self, message: Message) -> Answer:
        """Give a worker a place in the open cycle, or reject it.

        Raises `WorkerNotFound`, `ProcessNotFound`, `InvalidRequest` for its speeds, and `CycleFull` while the
        cycle is averaged. See `cycle_rules` for who gets a place.
        """
        worker = self._cycles.worker(message.get("worker_id"))
        process = self._processes.find(message.get("model"), message.get("version"))
        config = process.server_config
        if config.authentication and worker.process_id != process.id:
            # A worker id is good for every open model, as syft.js uses it; not for one that wants a token.
            raise WorkerNotFound
        fast_enough = _is_fast_enough(message, config)
        cycle = self._cycles.open_cycle(process.id)
        if cycle is None:
            return {"status": "rejected"}
        now = self._clock()
        if is_due(cycle, now):
            # Here as well: the process that got the last report may have died.
            self._listener.on_due(cycle.id)
            raise CycleFull(cycle.id, _rejection(process, _AVERAGING_TIME))
        return (
            self._admit(worker, process, cycle, now)
            if fast_enough
            else _rejection(process, wait(cycle, None, now))
        )

    def _admit(self, worker: Worker, process: Process, cycle: Cycle, now: float) -> Answer:
        config = process.server_config
        if not may_enter(cycle, self._cycles.places(worker, process.id), config.reuse_after, now):
            return _rejection(process, wait(cycle, None, now))
        lapses_at, most = now + self._place_lifetime, config.max_workers
        key = secrets.token_hex(32)
        if given := self._cycles.assign(worker, cycle, key, now=now, lapses_at=lapses_at, most=most):
            return _acceptance(process, given)
        return _rejection(process, wait(cycle, self._cycles.next_lapse(cycle, now), now))

    def report(self, message: Message) -> Answer:
        """Count a worker's diff, the first good one.

        A second one changes nothing and is a success, as workers know it: they repeat a report whose answer
        was lost. A place that has lapsed is as good as any other while the cycle wants diffs. Raises
        `WorkerNotFound`, `InvalidRequestKey`, `CycleOver` for one that comes too late, and `InvalidRequest`
        for a diff that can't be averaged; the worker may then report again.
        """
        worker = self._cycles.worker(message.get("worker_id"))
        assignment = matching(self._cycles.assignments(worker), message.get("request_key"))
        body = decode_diff(message.get("diff"))
        process = self._processes.get(assignment.process_id)
        check_diff(body, process.parameters)
        now = self._clock()
        cycle = self._cycles.count_diff(assignment, body, now)
        if cycle is not None and is_due(cycle, now):
            self._listener.on_due(cycle.id)
        return {"status": "success"}


def matching(assignments: list[Assignment], request_key: Any) -> Assignment:
    """The place that a key proves; raises `InvalidRequestKey`. Takes the same time for any wrong key."""
    key = str(request_key).encode()
    found = [each for each in assignments if hmac.compare_digest(each.request_key.encode(), key)]
    if not found:
        raise InvalidRequestKey
    return found[0]


def _is_fast_enough(message: Message, config: ServerConfig) -> bool:
    """Compare a worker's speeds (ping in ms, the others in KB/s) with the minimum, where there is one."""
    if not config.requires_speed_test:
        return True
    for key in ("ping", "download", "upload"):
        value = message.get(key)
        if value is None:
            raise InvalidRequest(f"{key!r} is required")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InvalidRequest(f"{key!r} needs to be a positive number")
    fast_down = message["download"] >= config.minimum_download_speed
    return bool(fast_down and message["upload"] >= config.minimum_upload_speed)


def _acceptance(process: Process, request_key: str) -> Answer:
    return {
        "status": "accepted",
        "request_key": request_key,
        "version": process.version,
        "model": process.name,
        "plans": process.plans,
        "protocols": {},
        "client_config": process.client_config,
        "model_id": process.id,
    }


def _rejection(process: Process, timeout: int) -> Answer:
    # The original has `timeout` as Python's "0:09:57.846274", which SwiftSyft can't decode; seconds it can.
    return {"status": "rejected", "model": process.name, "version": process.version, "timeout": timeout}
