"""A simulated data scientist: does what artificienlib does, with plans that artificienlib has traced."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from local_platform import LocalPlatformError, seeds
from local_platform.clients import LocalAws
from local_platform.demo.phone import TIMEOUT, retry_on_failure
from local_platform.demo.study import CYCLES, LEARNING_RATE, PHONES
from local_platform.network import NODE_PORT, direct_session
from pygrid_wire import encode_state

PLANS = Path(__file__).parent
DEADLINE = 60.0
"""Seconds to wait for a node, and for the trained model."""


@dataclass(frozen=True, slots=True)
class Scientist:
    """A data scientist who has purchased a dataset. `token` logs in and returns an access token."""

    username: str
    token: Callable[[], str]
    service: str
    aws: LocalAws
    dataset_id: str

    def register(self, name: str) -> str:
        """Write the model's item as artificienlib does, and return the model's id."""
        item = seeds.model_item(self.username, name) | {"dataset": self.dataset_id}
        self._models().put_item(Item=item)
        return str(item["model_id"])

    def request_node(
        self,
        model_id: str,
        features: tuple[str, ...],
        labels: tuple[str, ...],
        on_reason: Callable[[str], None],
    ) -> str:
        """Call `/create` until the node is ready; return its address.

        `on_reason` is called with each new reason to wait. Raises LocalPlatformError on an error, or after a
        minute.
        """
        token, reasons = self.token(), set[str]()
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            answer = self._create(token, model_id, features, labels)
            if "error" in answer:
                raise LocalPlatformError(f"POST /create failed: {answer['error']}")
            if answer["status"] == "ready":
                return str(answer["nodeURL"])
            if answer["reason"] not in reasons:
                reasons.add(answer["reason"])
                on_reason(answer["reason"])
            time.sleep(0.2)
        raise LocalPlatformError(f"The node was not ready within {DEADLINE:.0f} s.")

    @retry_on_failure
    def _create(
        self, token: str, model_id: str, features: tuple[str, ...], labels: tuple[str, ...]
    ) -> dict[str, Any]:
        body = {
            "dataset_id": self.dataset_id,
            "model_id": model_id,
            "features": list(features),
            "labels": list(labels),
        }
        with direct_session() as session:
            headers = {"Authorization": f"Bearer {token}"}
            answer = session.post(f"{self.service}/create", json=body, headers=headers, timeout=TIMEOUT)
        return dict(answer.json())

    def upload(self, node: str, model_id: str, parameters: list[np.ndarray[Any, Any]]) -> None:
        """Upload model and plans in one WebSocket message. Raises LocalPlatformError."""
        message = _upload_message(model_id, parameters)
        answer = asyncio.run(_exchange(f"ws://{node}:{NODE_PORT}", message))
        if answer.get("data") != {"status": "success"}:
            raise LocalPlatformError(f"The node refused the model: {answer}")

    def item(self, model_id: str) -> dict[str, Any]:
        """Return the model's item, which the marketplace's page shows."""
        return dict(self._models().get_item(Key={"model_id": model_id}, ConsistentRead=True)["Item"])

    def download(self, model_id: str) -> tuple[str, bytes]:
        """Wait for the download link; return it and the trained model, a safetensors file.

        Raises LocalPlatformError if no link appears within a minute.
        """
        deadline = time.monotonic() + DEADLINE
        while (link := self.item(model_id).get("download_link")) is None:
            if time.monotonic() > deadline:
                raise LocalPlatformError(f"The trained model had no download link after {DEADLINE:.0f} s.")
            time.sleep(0.2)
        return link, self._get(link)

    @retry_on_failure
    def _get(self, link: str) -> bytes:
        with direct_session() as session:
            answer = session.get(link, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.content

    def _models(self) -> Any:
        return self.aws.resource("dynamodb").Table("model_table")


def _upload_message(model_id: str, parameters: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    return {
        "type": "model-centric/host-training",
        "data": {
            "model": encode_state(parameters).hex(),
            "plans": {"training_plan": (PLANS / "training_plan.pb").read_bytes().hex()},
            "protocols": {},
            "averaging_plan": (PLANS / "averaging_plan.pb").read_bytes().hex(),
            "client_config": {
                "name": model_id,
                "version": seeds.VERSION,
                "batch_size": 13,
                "lr": LEARNING_RATE,
                "max_updates": 1,
            },
            "server_config": {
                "min_workers": PHONES,
                "max_workers": PHONES,
                "pool_selection": "random",
                "do_not_reuse_workers_until_cycle": 1,
                "cycle_length": 600,
                "num_cycles": CYCLES,
                "max_diffs": PHONES,
                "minimum_upload_speed": 0,
                "minimum_download_speed": 0,
                "iterative_plan": True,
            },
        },
    }


async def _exchange(url: str, message: dict[str, Any]) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_str(json.dumps(message))
        return dict(await socket.receive_json(timeout=60))
