"""A PyGrid node over HTTP. Its bytes are a stranger's: their size, time and shapes are checked here."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
import structlog

from orchestration.domain.entities import Model
from orchestration.domain.errors import NodeUnreachable, UnusableModel

if TYPE_CHECKING:
    import numpy as np

log = structlog.get_logger(__name__)

PORT = 5000
"""Hard-wired in every client of a node."""

LATEST = "latest"
UPLOADED = "1"
"""The checkpoint that a node makes of the upload itself."""

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PygridServer:
    """Implements the port `NodeServer`; times in seconds, size in bytes."""

    probe_timeout: float = 2.0
    download_timeout: float = 300.0
    largest_model: int = 512 << 20

    def answers(self, address: str, node_id: str) -> bool:
        """Whether the node there says that it is this one: an address may have gone to another's."""
        try:
            answer = requests.get(
                f"http://{address}:{PORT}/data-centric/identity/",
                timeout=self.probe_timeout,
                allow_redirects=False,
            )
            identity = answer.json()
        except (requests.RequestException, ValueError) as error:
            log.debug("node.silent", node_id=node_id, cause=type(error).__name__)
            return False
        return answer.ok and isinstance(identity, dict) and identity.get("identity") == node_id

    def trained_model(self, address: str, model: Model) -> bytes:
        """Return the newest checkpoint, provided its shapes are those of the first."""
        state = self._checkpoint(address, model, LATEST)
        uploaded, trained = self._decoded(self._checkpoint(address, model, UPLOADED)), self._decoded(state)
        if [(a.shape, a.dtype) for a in uploaded] != [(a.shape, a.dtype) for a in trained]:
            raise UnusableModel("The node's trained model doesn't have the shapes of the uploaded one.")
        return state

    def _checkpoint(self, address: str, model: Model, checkpoint: str) -> bytes:
        query = {"name": model.name_on_node, "version": model.version, "checkpoint": checkpoint}
        try:
            with requests.get(
                f"http://{address}:{PORT}/model-centric/retrieve-model",
                params=query,
                timeout=self.probe_timeout * 5,
                allow_redirects=False,
                stream=True,
            ) as answer:
                if answer.status_code != requests.codes.ok:
                    raise UnusableModel(f"The node answered {answer.status_code} for the trained model.")
                return self._body(answer)
        except requests.RequestException as error:
            raise NodeUnreachable("The node did not hand over the trained model.") from error

    def _body(self, answer: requests.Response) -> bytes:
        """Read no more and no longer than allowed: a time-out per read would let a node trickle for ever."""
        deadline = time.monotonic() + self.download_timeout
        body = bytearray()
        for chunk in answer.iter_content(CHUNK):
            body += chunk
            if len(body) > self.largest_model:
                raise UnusableModel(f"The node's trained model is larger than {self.largest_model} bytes.")
            if time.monotonic() > deadline:
                raise NodeUnreachable(f"The node took longer than {self.download_timeout:.0f} s.")
        return bytes(body)

    @staticmethod
    def _decoded(state: bytes) -> "list[np.ndarray]":
        # Only the reconciler comes here; a web worker never pays for NumPy.
        from pygrid_wire.state import MalformedState, decode_state

        try:
            return decode_state(state)
        except MalformedState as error:
            raise UnusableModel(f"The node's trained model can't be read: {error}") from error
