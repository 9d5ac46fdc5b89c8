"""A PyGrid node over HTTP. Its bytes are a stranger's: their size, time and shapes are checked here."""

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import requests
import structlog
from urllib3.exceptions import HTTPError

from orchestration.adapters.addresses import resolved
from orchestration.domain.entities import Model
from orchestration.domain.errors import NodeUnreachable, UnusableModel
from orchestration.domain.healing import MOST_CYCLES
from orchestration.domain.ports import NodeCredential

if TYPE_CHECKING:
    import numpy as np

log = structlog.get_logger(__name__)

PORT = 5000
"""Hard-wired in every client of a node."""

LATEST = "latest"
UPLOADED = "1"
"""The checkpoint that a node makes of the upload itself."""

CHUNK = 1 << 20
LARGEST_IDENTITY = 4096
"""Bytes."""

UNREACHABLE = (requests.RequestException, HTTPError)
"""What requests raises, and what urllib3 raises while a body is read."""


@dataclass(frozen=True, slots=True)
class PygridServer:
    """Implements the port `NodeServer`; times in seconds, size in bytes."""

    probe_timeout: float = 2.0
    download_timeout: float = 300.0
    largest_model: int = 512 << 20
    local_mode: bool = False

    def answers(self, address: str, node_id: str) -> bool:
        """Whether the node there says that it is this one: an address may have gone to another's."""
        try:
            with self._asked(address, "/data-centric/identity/", self.probe_timeout) as answer:
                body = _body(answer, seconds=self.probe_timeout, largest=LARGEST_IDENTITY)
                identity = json.loads(body)
        except (*UNREACHABLE, NodeUnreachable, UnusableModel, ValueError, RecursionError) as error:
            log.debug("node.silent", node_id=node_id, cause=type(error).__name__)
            return False
        is_answer = answer.status_code == requests.codes.ok and isinstance(identity, dict)
        return is_answer and identity.get("identity") == node_id

    def trained_model(self, address: str, model: Model, credential: NodeCredential) -> bytes:
        """Return the newest checkpoint, provided its shapes are those of the first."""
        state = self._checkpoint(address, model, credential, LATEST)
        first = self._checkpoint(address, model, credential, UPLOADED)
        uploaded, trained = self._decoded(first), self._decoded(state)
        if [(a.shape, a.dtype) for a in uploaded] != [(a.shape, a.dtype) for a in trained]:
            raise UnusableModel("The node's trained model doesn't have the shapes of the uploaded one.")
        return state

    def newest_checkpoint(self, address: str, model: Model, credential: NodeCredential, beyond: int) -> int:
        """Ask for single numbers, further and further, then between; the bodies are not read."""
        there, step = beyond, 1
        while self._has(address, model, credential, there + step):
            there, step = there + step, step * 2
            if there > MOST_CYCLES:
                raise UnusableModel("The node has more checkpoints than a model can have.")
        while step > 1:
            step //= 2
            if self._has(address, model, credential, there + step):
                there += step
        return there

    def _has(self, address: str, model: Model, credential: NodeCredential, checkpoint: int) -> bool:
        try:
            path = _path_of(model, str(checkpoint))
            with self._asked(address, path, self.probe_timeout * 5, credential) as answer:
                status = answer.status_code
        except UNREACHABLE as error:
            raise NodeUnreachable("The node did not say how far the model is.") from error
        if status not in (requests.codes.ok, requests.codes.not_found):
            raise UnusableModel(f"The node answered {status} for checkpoint {checkpoint}.")
        return bool(status == requests.codes.ok)

    def _checkpoint(self, address: str, model: Model, credential: NodeCredential, checkpoint: str) -> bytes:
        path = _path_of(model, checkpoint)
        try:
            with self._asked(address, path, self.probe_timeout * 5, credential) as answer:
                if answer.status_code != requests.codes.ok:
                    raise UnusableModel(f"The node answered {answer.status_code} for the trained model.")
                return _body(answer, seconds=self.download_timeout, largest=self.largest_model)
        except UNREACHABLE as error:
            raise NodeUnreachable("The node did not hand over the trained model.") from error

    def _asked(
        self, address: str, path: str, timeout: float, credential: NodeCredential | None = None
    ) -> requests.Response:
        at = resolved(address, PORT, local_mode=self.local_mode)
        host = f"[{at}]" if ":" in at else at
        session = requests.Session()
        session.trust_env = False  # no proxy, no .netrc: a node is called at its address and nowhere else
        return session.get(
            f"http://{host}:{PORT}{path}",
            headers={"Host": f"{address}:{PORT}", "Accept-Encoding": "identity"},
            auth=(credential.user, credential.password) if credential else None,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        )

    @staticmethod
    def _decoded(state: bytes) -> "list[np.ndarray]":
        # Only the reconciler comes here; a web worker never pays for NumPy.
        from pygrid_wire.state import decode_state

        try:
            return decode_state(state)
        except ValueError as error:  # MalformedState, or NumPy's own word on a shape that no array can have
            raise UnusableModel(f"The node's trained model can't be read: {error}") from error


def _path_of(model: Model, checkpoint: str) -> str:
    query = {"name": model.name_on_node, "version": model.version, "checkpoint": checkpoint}
    return f"/model-centric/retrieve-model?{urlencode(query)}"


def _body(answer: requests.Response, *, seconds: float, largest: int) -> bytes:
    """Read no more and no longer than allowed: a time-out per read would let a node trickle for ever."""
    deadline = time.monotonic() + seconds
    body = bytearray()
    while chunk := answer.raw.read1(CHUNK):  # what is there, without waiting for a whole chunk
        body += chunk
        if len(body) > largest:
            raise UnusableModel(f"The node's answer is larger than {largest} bytes.")
        if time.monotonic() > deadline:
            raise NodeUnreachable(f"The node took longer than {seconds:.0f} s.")
    return bytes(body)
