"""A phone: asks what there is to train, trains it on its own patients, and reports loss and change.

It speaks as the iOS pod does: key and dataset to `/info`, loss without a credential, the rest to the node.
"""

import base64
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from local_platform.demo.plan_runner import run
from local_platform.demo.study import Records
from local_platform.network import direct
from pygrid_wire.state import decode_state, encode_state

NODE_PORT = 5000
TIMEOUT = 30
SPEEDS = {"ping": 8.5, "download": 46751.25, "upload": 12345.5}
"""Milliseconds and kB/s, as a phone at home measures them."""

PAUSE = (0.8, 1.6)
"""Seconds between two questions of a phone; a real one asks when it is charging and on Wi-Fi."""

patiently = retry(
    retry=retry_if_exception_type(requests.RequestException),
    wait=wait_random_exponential(0.1, max=1),
    stop=stop_after_delay(30),
    reraise=True,
)
"""A phone comes back when a server is away: it may have been killed and started again."""


@dataclass(slots=True)
class Phone:
    """One device with its own records. `service` is the orchestration service's URL."""

    records: Records
    service: str
    api_key: str
    dataset_id: str
    session: requests.Session = field(default_factory=direct)
    worker_id: str | None = None
    """Kept for all cycles of the model, so that the node can tell a phone that asks twice."""
    plan: bytes | None = None

    @patiently
    def info(self) -> dict[str, Any]:
        """Ask what there is to train, and where."""
        answer = self.session.post(
            f"{self.service}/info",
            json={"dataset_id": self.dataset_id},
            headers={"api_key": self.api_key},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return dict(answer.json())

    def train(self, node: str, model_id: str, version: str) -> bool:
        """Take part in the running cycle; False when the node has no place in it for this phone."""
        model = {"model": model_id, "version": version}
        if self.worker_id is None:
            login = self._post(
                node, "authenticate", auth_token=None, model_name=model_id, model_version=version
            )
            self.worker_id = login["worker_id"]
        cycle = self._post(node, "cycle-request", worker_id=self.worker_id, **model, **SPEEDS)
        if cycle["status"] != "accepted":
            return False
        loss, diff = self._work(node, cycle)
        self._report_loss(model_id, loss)
        key = cycle["request_key"]
        answer = self._post(
            node, "report", worker_id=self.worker_id, request_key=key, diff=base64.b64encode(diff).decode()
        )
        return answer.get("status") == "success"

    def _work(self, node: str, cycle: dict[str, Any]) -> tuple[float, bytes]:
        """Execute the data scientist's plan on this phone's records; return loss and State of old - new."""
        key = cycle["request_key"]
        if self.plan is None:
            plan_id = cycle["plans"]["training_plan"]
            self.plan = self._get(node, "get-plan", key, plan_id=plan_id, receive_operations_as="tfjs")
        parameters = decode_state(self._get(node, "get-model", key, model_id=cycle["model_id"]))
        size = np.array([len(self.records)], np.float32)
        rate = np.array([cycle["client_config"]["lr"]], np.float32)
        loss, _, *updated = run(self.plan, self.records.X, self.records.y, size, rate, *parameters)
        diff = [before - after for before, after in zip(parameters, updated, strict=True)]
        return float(np.sum(loss)), encode_state(diff)

    @patiently
    def _report_loss(self, model_id: str, loss: float) -> None:
        report = {"acc": -1, "loss": loss, "model_id": model_id}
        self.session.post(f"{self.service}/model_loss", json=report, timeout=TIMEOUT).raise_for_status()

    @patiently
    def _post(self, node: str, event: str, **body: Any) -> dict[str, Any]:
        url = f"http://{node}:{NODE_PORT}/model-centric/{event}"
        answer = self.session.post(url, json=body, timeout=TIMEOUT)
        answer.raise_for_status()
        return dict(answer.json())

    @patiently
    def _get(self, node: str, what: str, request_key: str, **query: Any) -> bytes:
        query |= {"worker_id": self.worker_id, "request_key": request_key}
        url = f"http://{node}:{NODE_PORT}/model-centric/{what}"
        answer = self.session.get(url, params=query, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.content


def train_to_the_end(phone: Phone, trained: Callable[[], None]) -> int:
    """Ask, train, pause, ask again, until the dataset has no model left; return how often it trained.

    `trained` is called after each time.
    """
    times = 0
    while models := (work := phone.info()).get("models"):
        for model_id, version, _features, _labels in models:
            if phone.train(work["nodeURL"], model_id, version):
                times += 1
                trained()
        time.sleep(random.uniform(*PAUSE))  # noqa: S311 - phones don't march in step
    return times
