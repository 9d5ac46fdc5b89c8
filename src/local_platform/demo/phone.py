"""A simulated phone: requests a model to train, trains it on its own records, and reports loss and diff.

It sends the same requests as the iOS pod: the API key and the dataset to `/info`, the loss without a
credential, everything else to the node. It executes the data scientist's training plan as syft.js does in a
browser.
"""

import base64
import random
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import numpy as np
import requests
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from local_platform.demo.study import Records
from local_platform.network import NODE_PORT, direct_session
from pygrid_wire import decode_state, encode_state
from pygrid_wire import syft_pb2 as pb

TIMEOUT = 30
SPEEDS = {"ping": 8.5, "download": 46751.25, "upload": 12345.5}
"""Milliseconds and kB/s, as a phone at home measures them."""
PAUSE = (0.8, 1.6)
"""Seconds between two calls of `/info`, at least and at most. A real phone waits for power and Wi-Fi."""

retry_on_failure = retry(
    retry=retry_if_exception_type(requests.RequestException),
    wait=wait_random_exponential(0.1, max=1),
    stop=stop_after_delay(30),
    reraise=True,
)
"""Repeats a failed request, because the server may have been killed and started again."""


@dataclass(slots=True)
class Phone:
    """A phone with its own records. `service` is the URL of the orchestration service."""

    records: Records
    service: str
    api_key: str
    dataset_id: str
    session: requests.Session = field(default_factory=direct_session)
    worker_id: str | None = None
    """The node's id for this phone. It is kept for all cycles, so that the phone trains once in each."""
    plan: bytes | None = None

    @retry_on_failure
    def info(self) -> dict[str, Any]:
        """Request the models to train, and their node, from the service."""
        answer = self.session.post(
            f"{self.service}/info",
            json={"dataset_id": self.dataset_id},
            headers={"api_key": self.api_key},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return dict(answer.json())

    def train(self, node: str, model_id: str, version: str) -> bool:
        """Take part in the current cycle. Return whether the node counts this phone's report."""
        model = {"model": model_id, "version": version}
        if self.worker_id is None:
            login = self._post(
                node, "authenticate", auth_token=None, model_name=model_id, model_version=version
            )
            self.worker_id = login["worker_id"]
        cycle = self._post(node, "cycle-request", worker_id=self.worker_id, **model, **SPEEDS)
        if cycle["status"] != "accepted":
            return False
        loss, diff = self._compute(node, cycle)
        self._report_loss(model_id, loss)
        key = cycle["request_key"]
        answer = self._post(
            node, "report", worker_id=self.worker_id, request_key=key, diff=base64.b64encode(diff).decode()
        )
        return answer.get("status") == "success" and answer.get("counted", True)

    def _compute(self, node: str, cycle: dict[str, Any]) -> tuple[float, bytes]:
        """Execute the training plan on this phone's records; return the loss, and old - new parameters."""
        key = cycle["request_key"]
        if self.plan is None:
            plan_id = cycle["plans"]["training_plan"]
            self.plan = self._get(node, "get-plan", key, plan_id=plan_id, receive_operations_as="tfjs")
        parameters = decode_state(self._get(node, "get-model", key, model_id=cycle["model_id"]))
        size = np.array([len(self.records)], np.float32)
        rate = np.array([cycle["client_config"]["lr"]], np.float32)
        loss, _, *updated = execute(self.plan, self.records.X, self.records.y, size, rate, *parameters)
        diff = [before - after for before, after in zip(parameters, updated, strict=True)]
        return float(np.sum(loss)), encode_state(diff)

    @retry_on_failure
    def _report_loss(self, model_id: str, loss: float) -> None:
        report = {"acc": -1, "loss": loss, "model_id": model_id}
        self.session.post(f"{self.service}/model_loss", json=report, timeout=TIMEOUT).raise_for_status()

    @retry_on_failure
    def _post(self, node: str, event: str, **body: Any) -> dict[str, Any]:
        url = f"http://{node}:{NODE_PORT}/model-centric/{event}"
        answer = self.session.post(url, json=body, timeout=TIMEOUT)
        answer.raise_for_status()
        return dict(answer.json())

    @retry_on_failure
    def _get(self, node: str, what: str, request_key: str, **query: Any) -> bytes:
        query |= {"worker_id": self.worker_id, "request_key": request_key}
        url = f"http://{node}:{NODE_PORT}/model-centric/{what}"
        answer = self.session.get(url, params=query, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.content


def train_all(phones: Sequence[Phone], on_report: Callable[[], None]) -> list[int]:
    """Train on all phones at the same time; return the number of reports of each.

    Raises the error of a phone. When the demo is interrupted, phones begin no further step. Their threads are
    daemons, because a phone may be repeating a failed request, and the demo must not wait for it.
    """
    futures, stopped = [Future[int]() for _ in phones], Event()

    def train(phone: Phone, future: Future[int]) -> None:
        try:
            future.set_result(train_until_done(phone, on_report, stopped))
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            future.set_exception(error)

    for phone, future in zip(phones, futures, strict=True):
        Thread(target=train, args=(phone, future), daemon=True).start()
    try:
        ended, running = wait(futures, return_when=FIRST_EXCEPTION)
        return [future.result() for future in (ended if running else futures)]  # raises if any still run
    finally:
        stopped.set()


def train_until_done(phone: Phone, on_report: Callable[[], None], stopped: Event) -> int:
    """Train until `/info` lists no model, or `stopped` is set; return the number of reports.

    `on_report` is called after each.
    """
    times = 0
    while not stopped.is_set() and (models := (work := phone.info()).get("models")):
        for model_id, version, _features, _labels in models:
            if phone.train(work["nodeURL"], model_id, version):
                times += 1
                on_report()
        stopped.wait(random.uniform(*PAUSE))  # noqa: S311 - phones don't call at the same moment
    return times


class UnknownOperationError(Exception):
    """The plan contains an operation or an argument that this phone doesn't know."""


OPERATIONS: dict[str, Callable[..., Any]] = {
    "clone": np.copy,
    "tf.add": np.add,
    "tf.argMax": lambda x, axis: np.argmax(x, axis=axis),
    "tf.cast": lambda x, dtype: np.asarray(x, dtype=dtype),
    "tf.div": np.divide,
    "tf.equal": np.equal,
    "tf.layers.reshape": np.reshape,
    "tf.matMul": np.matmul,
    "tf.mul": np.multiply,
    "tf.sub": np.subtract,
    "tf.sum": lambda x, axis=None: np.sum(x, axis=None if axis is None else tuple(axis)),
    "tf.transpose": np.transpose,
}
"""The operations of TensorFlow.js that artificienlib's plan of a linear regression contains."""


def execute(plan: bytes, *inputs: Any) -> list[Any]:
    """Execute a serialized `Plan` in its tfjs form; return loss, accuracy, then the updated parameters.

    `inputs` are X, y, batch size, learning rate and the parameters. Raises UnknownOperationError.
    """
    role = pb.Plan.FromString(plan).role
    values = {place.id_int: value for place, value in zip(role.input_placeholder_ids, inputs, strict=True)}
    for action in role.actions:
        if action.command not in OPERATIONS:
            raise UnknownOperationError(f"The plan contains the unknown operation {action.command}.")
        result = OPERATIONS[action.command](*_arguments(action.args, values))
        values[action.return_placeholder_ids[0].id.id_int] = result
    return [values[place.id_int] for place in role.output_placeholder_ids]


def _arguments(arguments: Sequence[pb.Arg], values: dict[int, Any]) -> list[Any]:
    return [_argument(argument, values) for argument in arguments]


def _argument(argument: pb.Arg, values: dict[int, Any]) -> Any:
    kind = argument.WhichOneof("arg")
    match kind:
        case "arg_placeholder_id":
            return values[argument.arg_placeholder_id.id.id_int]
        case "arg_list":
            return _arguments(argument.arg_list.args, values)
        case "arg_bool" | "arg_int" | "arg_float" | "arg_str":
            return getattr(argument, kind)
        case _:
            raise UnknownOperationError(f"The plan contains an argument of the unknown kind {kind}.")
