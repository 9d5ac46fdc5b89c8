"""A data scientist: does what artificienlib does, step for step, with the plans that it traced."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import safetensors.numpy
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from local_platform.clients import LocalAws
from local_platform.demo.phone import NODE_PORT, TIMEOUT, patiently
from local_platform.demo.study import CYCLES, LEARNING_RATE, PHONES
from local_platform.network import direct
from pygrid_wire.state import encode_state

PLANS = Path(__file__).parent
VERSION = "1.0"


class GaveUpError(Exception):
    """What was asked for did not come in time, or was refused."""


@dataclass(frozen=True, slots=True)
class Scientist:
    """Somebody with a login and a purchased dataset. `token` logs in and returns an access token."""

    username: str
    token: Callable[[], str]
    service: str
    aws: LocalAws
    dataset_id: str

    def register(self, name: str) -> str:
        """Write the model's item as artificienlib does, and return its id."""
        model_id = f"{name}-{VERSION}-{self.username}"
        self._models().put_item(
            Item={
                "model_id": model_id,
                "active_status": 1,
                "version": VERSION,
                "dataset": self.dataset_id,
                "date_submitted": datetime.now(UTC).date().isoformat(),
                "owner_name": self.username,
                "percent_complete": 0,
                "devices_trained_this_cycle": 0,
                "loss_this_cycle": -1,
                "acc_this_cycle": -1,
            }
        )
        return model_id

    def node_for(
        self, model_id: str, features: tuple[str, ...], labels: tuple[str, ...], told: Callable[[str], None]
    ) -> str:
        """Ask for the node until it is ready; `told` hears each new reason. Raises GaveUpError."""
        token, reasons = self.token(), set[str]()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = self._create(token, model_id, features, labels)
            if "error" in answer:
                raise GaveUpError(answer["error"])
            if answer["status"] == "ready":
                return str(answer["nodeURL"])
            if answer["reason"] not in reasons:
                reasons.add(answer["reason"])
                told(answer["reason"])
            time.sleep(0.2)
        raise GaveUpError("The node was not ready within a minute.")

    @patiently
    def _create(
        self, token: str, model_id: str, features: tuple[str, ...], labels: tuple[str, ...]
    ) -> dict[str, Any]:
        body = {
            "dataset_id": self.dataset_id,
            "model_id": model_id,
            "features": list(features),
            "labels": list(labels),
        }
        with direct() as session:
            headers = {"Authorization": f"Bearer {token}"}
            answer = session.post(f"{self.service}/create", json=body, headers=headers, timeout=TIMEOUT)
        return dict(answer.json())

    def send(self, node: str, model_id: str, parameters: list[np.ndarray[Any, Any]]) -> None:
        """Upload model and plans over one WebSocket frame. Raises GaveUpError."""
        answer = asyncio.run(_exchange(f"ws://{node}:{NODE_PORT}", _upload(model_id, parameters)))
        if answer.get("data") != {"status": "success"}:
            raise GaveUpError(f"The node refused the model: {answer}")

    def item(self, model_id: str) -> dict[str, Any]:
        """Read the model's item, as the marketplace's page does."""
        return dict(self._models().get_item(Key={"model_id": model_id}, ConsistentRead=True)["Item"])

    def trained(self, model_id: str) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
        """Wait for the download link and follow it; return it and the tensors. Raises GaveUpError."""
        waiting = Retrying(
            retry=retry_if_result(lambda link: link is None),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(60),
            retry_error_callback=lambda _: None,
        )
        link = waiting(lambda: self.item(model_id).get("download_link"))
        if link is None:
            raise GaveUpError("The trained model did not come within a minute.")
        return link, safetensors.numpy.load(self._followed(link))

    @patiently
    def _followed(self, link: str) -> bytes:
        with direct() as session:
            answer = session.get(link, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.content

    def _models(self) -> Any:
        return self.aws.resource("dynamodb").Table("model_table")


def _upload(model_id: str, parameters: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    return {
        "type": "model-centric/host-training",
        "data": {
            "model": encode_state(parameters).hex(),
            "plans": {"training_plan": (PLANS / "training_plan.pb").read_bytes().hex()},
            "protocols": {},
            "averaging_plan": (PLANS / "averaging_plan.pb").read_bytes().hex(),
            "client_config": {
                "name": model_id,
                "version": VERSION,
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


async def _exchange(url: str, frame: dict[str, Any]) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_str(json.dumps(frame))
        return dict(await socket.receive_json(timeout=60))
