"""A worker's messages, in the order in which it sends them: authenticate, cycle-request, report."""

import hmac
import math
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jose import JOSEError, jwt

from pygrid_node.entities import Assignment, Cycle, HostedModel, Worker
from pygrid_node.errors import (
    AuthenticationFailed,
    CycleOver,
    InvalidRequest,
    InvalidRequestKey,
    WorkerNotFound,
)
from pygrid_node.server_config import ServerConfig
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.models import ModelStore
from pygrid_node.uploads import UploadLimits, check_diff, decode_diff, read_upload

Answer = dict[str, Any]
Message = Mapping[str, Any]

_LIMITS = UploadLimits()
# Seconds that a worker has to wait if its cycle is being averaged, or the next one is pending.
_BETWEEN_CYCLES = 1
_LONGEST_TOKEN = 16 * 1024  # characters
# Algorithm by entry of `authentication`. Accepting both for one key would let a public key serve as a secret.
_ALGORITHMS = {"secret": "HS256", "pub_key": "RS256"}


@dataclass(frozen=True, slots=True)
class CycleReply:
    """Answer to a cycle-request.

    `averaging` is a cycle whose averaging the worker may wait for; `is_pending` says that it may wait for the
    opening of the next cycle.
    """

    answer: Answer
    averaging: int | None = None
    is_pending: bool = False


class Training:
    """Handles the protocol's four messages: each method takes a message's data and returns the answer's data.

    Every method may block on the database. `on_due` is called with the id of a cycle that must be averaged,
    and `on_opened` when a cycle was opened, both in the thread of the message.
    """

    def __init__(
        self,
        models: ModelStore,
        cycles: CycleStore,
        *,
        on_due: Callable[[int], None],
        on_opened: Callable[[], None],
        lease_time: float,
        spare_workers: int = 0,
        min_reports: int = 1,
        limits: UploadLimits = _LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use these stores; a worker that does not report loses its lease after `lease_time` seconds.

        So many per cent more workers than `max_workers` are assigned to a cycle as `spare_workers` says, in
        case some never report. No more diffs count; those of the last workers may come too late.
        No cycle of a new model ends with fewer than `min_reports` reports; `limits` is how large it may be.
        """
        self._models = models
        self._cycles = cycles
        self._on_due = on_due
        self._on_opened = on_opened
        self._lease_time = lease_time
        self._spare_workers = spare_workers
        self._min_reports = min_reports
        self._limits = limits
        # One upload at a time: protobuf makes up to 90 bytes of one of a plan.
        self._reading = threading.Lock()
        self._clock = clock

    def host(self, message: Message) -> Answer:
        """Store a model and open its first cycle. Raises `InvalidRequest`, `AlreadyExists`."""
        with self._reading:
            upload = read_upload(message, self._min_reports, self._limits)
        self._models.add(upload, self._clock())
        self._on_opened()
        return {"status": "success"}

    def authenticate(self, message: Message) -> Answer:
        """Create a worker, a new one for each message. Raises `ModelNotFound`, `AuthenticationFailed`."""
        model = self._models.find(message.get("model_name"), message.get("model_version"))
        check_token(model.server_config.authentication, message.get("auth_token"))
        worker = Worker(str(uuid.uuid4()), model.id)
        self._cycles.add_worker(worker)
        return {
            "status": "success",
            "worker_id": worker.id,
            "requires_speed_test": model.server_config.requires_speed_test,
        }

    def request_cycle(self, message: Message) -> CycleReply:
        """Assign a worker to the open cycle, or reject it; `Cycle.admits` has the rule.

        Raises `WorkerNotFound`, `ModelNotFound`, and `InvalidRequest` for missing or wrong speeds.
        """
        worker = self._cycles.worker(message.get("worker_id"))
        model = self._models.find(message.get("model"), message.get("version"))
        config = model.server_config
        if config.authentication and worker.model_id != model.id:
            # syft.js uses one worker id for every open model; a model with tokens needs a worker of its own.
            raise WorkerNotFound
        fast_enough = _is_fast_enough(message, config)
        cycle = self._cycles.open_cycle(model.id)
        if cycle is None:
            return CycleReply({"status": "rejected"})
        now = self._clock()
        if cycle.is_due(now):
            # The replica that received the last report may have died before it averaged the cycle.
            self._on_due(cycle.id)
            return CycleReply(_rejection(model, _BETWEEN_CYCLES), averaging=cycle.id)
        if cycle.is_pending(now):
            return CycleReply(_rejection(model, _BETWEEN_CYCLES), is_pending=True)
        if not fast_enough:
            return CycleReply(_rejection(model, cycle.wait(None, now)))
        return CycleReply(self._assign(worker, model, cycle, now))

    def report(self, message: Message) -> Answer:
        """Count the first valid diff of a worker's assignment.

        A repeated report changes nothing and is a success, because workers repeat a report whose answer was
        lost. A diff counts even after the lease expired, as long as the cycle is open. A report that is too
        late is a success with `counted` false: some clients stop at an error. Raises `WorkerNotFound`,
        `InvalidRequestKey`, and `InvalidRequest` for a diff that cannot be averaged; the worker may then
        report again.
        """
        assignments = self._cycles.assignments(message.get("worker_id"))
        assignment = with_key(assignments, message.get("request_key"))
        parameters = self._models.get(assignment.model_id).parameters
        body = decode_diff(message.get("diff"), parameters)
        check_diff(body, parameters)
        now = self._clock()
        try:
            cycle = self._cycles.count_diff(assignment, body, now)
        except CycleOver as error:
            return {"status": "success", "counted": False, "detail": str(error)}
        if cycle is not None and cycle.is_due(now):
            self._on_due(cycle.id)
        return {"status": "success"}

    def _assign(self, worker: Worker, model: HostedModel, cycle: Cycle, now: float) -> Answer:
        config = model.server_config
        if not cycle.admits(self._cycles.leases(worker, model.id), config.reuse_after, now):
            return _rejection(model, cycle.wait(None, now))
        key = self._cycles.assign(
            worker,
            cycle,
            secrets.token_hex(32),
            now=now,
            expires_at=now + self._lease_time,
            most_assigned=self._most_assigned(config),
        )
        if key is None:
            return _rejection(model, cycle.wait(self._cycles.next_expiry(cycle, now), now))
        return _acceptance(model, key)

    def _most_assigned(self, config: ServerConfig) -> int | None:
        if config.max_workers is None:
            return None
        return config.max_workers + math.ceil(config.max_workers * self._spare_workers / 100)


def with_key(assignments: list[Assignment], request_key: Any) -> Assignment:
    """Return the assignment of a key, in constant time for wrong keys. Raises `InvalidRequestKey`."""
    key = str(request_key).encode(errors="surrogatepass")
    found = [each for each in assignments if hmac.compare_digest(each.request_key.encode(), key)]
    if not found:
        raise InvalidRequestKey
    return found[0]


def check_token(authentication: Mapping[str, str] | None, token: Any) -> None:
    """Raise `AuthenticationFailed` if the model requires a token and this one is not valid for it."""
    if authentication is None:
        return
    if not token:
        raise AuthenticationFailed("Authentication is required, please pass an 'auth_token'.")
    text = str(token)
    if len(text) > _LONGEST_TOKEN or not any(
        _verifies(text, key, _ALGORITHMS[kind]) for kind, key in authentication.items()
    ):
        raise AuthenticationFailed("The 'auth_token' you sent is invalid.")


def _verifies(token: str, key: str, algorithm: str) -> bool:
    try:
        jwt.decode(token, key, algorithms=[algorithm], options={"verify_aud": False})
    except (JOSEError, ValueError, RecursionError):  # a malformed token, or a malformed key in the upload
        return False
    return True


def _is_fast_enough(message: Message, config: ServerConfig) -> bool:
    """Compare a worker's speeds (ping in ms, the others in KB/s) with the minimum, if the upload has one."""
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


def _acceptance(model: HostedModel, request_key: str) -> Answer:
    return {
        "status": "accepted",
        "request_key": request_key,
        "version": model.version,
        "model": model.name,
        "plans": model.plans,
        "protocols": {},
        "client_config": model.client_config,
        "model_id": model.id,
    }


def _rejection(model: HostedModel, timeout: int) -> Answer:
    # PyGrid sends `timeout` as Python's "0:09:57.846274", which SwiftSyft cannot decode; it decodes seconds.
    return {"status": "rejected", "model": model.name, "version": model.version, "timeout": timeout}
