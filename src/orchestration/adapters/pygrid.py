"""A PyGrid node over HTTP. Its responses are untrusted: their size, duration and content are checked here.

The node's host name is resolved once, and the connection goes to the address that was checked. A second
lookup could return another address (DNS rebinding).
"""

import ipaddress
import json
import re
import socket
import time
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import requests
import structlog
from urllib3.exceptions import HTTPError

from orchestration.domain.entities import Model
from orchestration.domain.errors import NodeUnreachable, UnusableModel
from orchestration.domain.node import NODE_PORT
from orchestration.domain.ports import NodeCredential, State
from orchestration.domain.progress import MOST_CYCLES

if TYPE_CHECKING:
    import numpy as np

log = structlog.get_logger(__name__)

_LATEST = "latest"
_UPLOADED = "1"
"""The checkpoint that the node creates from the upload itself."""

_CHUNK = 1 << 20  # bytes
_LARGEST_IDENTITY = 4096  # bytes
_UNREACHABLE = (requests.RequestException, HTTPError)
"""What requests raises, and what urllib3 raises while a body is read."""

_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)
_METADATA = frozenset({"169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd00:ec2::23"})
"""Addresses at which EC2 and ECS give credentials to any process on the machine."""


@dataclass(frozen=True, slots=True)
class PygridServer:
    """Implements the port `NodeServer`; times in seconds, sizes in bytes."""

    probe_timeout: float = 2.0
    download_timeout: float = 300.0
    largest_model: int = 512 << 20  # as sent, and decoded
    local_mode: bool = False
    port: int = NODE_PORT

    def answers(self, address: str, node_id: str) -> bool:
        """Return whether the server at this address identifies itself as this node; AWS reuses addresses."""
        try:
            with self._get(address, "/data-centric/identity/", self.probe_timeout) as answer:
                body = _body(answer, seconds=self.probe_timeout, largest=_LARGEST_IDENTITY)
                identity = json.loads(bytes(body))
        except (*_UNREACHABLE, NodeUnreachable, UnusableModel, ValueError, RecursionError) as error:
            log.debug("node.probe_failed", node_id=node_id, cause=type(error).__name__)
            return False
        is_answer = answer.status_code == requests.codes.ok and isinstance(identity, dict)
        return is_answer and identity.get("identity") == node_id

    def trained_model(self, address: str, model: Model, credential: NodeCredential) -> State:
        """Return the newest checkpoint, provided it has the shapes of the first; one of them is in memory."""
        uploaded = self._shapes(self._checkpoint(address, model, credential, _UPLOADED))
        state = self._checkpoint(address, model, credential, _LATEST)
        if self._shapes(state) != uploaded:
            raise UnusableModel("The node's trained model doesn't have the shapes of the uploaded one.")
        return state

    def hosts(self, address: str, model: Model, credential: NodeCredential) -> bool:
        """Return whether the node has the checkpoint that it creates from the upload."""
        return self._has(address, model, credential, 1)

    def newest_checkpoint(self, address: str, model: Model, credential: NodeCredential, beyond: int) -> int:
        """Search by doubling steps, then by halving them; no body is read."""
        newest, step = beyond, 1
        while self._has(address, model, credential, newest + step):
            newest, step = newest + step, step * 2
            if newest > MOST_CYCLES:
                raise UnusableModel("The node has more checkpoints than a model can have.")
        while step > 1:
            step //= 2
            if self._has(address, model, credential, newest + step):
                newest += step
        return newest

    def _has(self, address: str, model: Model, credential: NodeCredential, checkpoint: int) -> bool:
        try:
            path = _path_of(model, str(checkpoint))
            with self._get(address, path, self.probe_timeout * 5, credential) as answer:
                status = answer.status_code
        except _UNREACHABLE as error:
            raise NodeUnreachable("The node did not say how far the model is.") from error
        if status not in (requests.codes.ok, requests.codes.not_found):
            raise UnusableModel(f"The node answered {status} for checkpoint {checkpoint}.")
        return bool(status == requests.codes.ok)

    def _checkpoint(self, address: str, model: Model, credential: NodeCredential, checkpoint: str) -> State:
        path = _path_of(model, checkpoint)
        try:
            with self._get(address, path, self.probe_timeout * 5, credential) as answer:
                if answer.status_code != requests.codes.ok:
                    raise UnusableModel(f"The node answered {answer.status_code} for the trained model.")
                return _body(answer, seconds=self.download_timeout, largest=self.largest_model)
        except _UNREACHABLE as error:
            raise NodeUnreachable("The node did not hand over the trained model.") from error

    def _get(
        self, address: str, path: str, timeout: float, credential: NodeCredential | None = None
    ) -> requests.Response:
        ip = resolved(address, self.port, local_mode=self.local_mode)
        host = f"[{ip}]" if ":" in ip else ip
        session = requests.Session()
        session.trust_env = False  # no proxy, no .netrc: the request goes to this address and nowhere else
        return session.get(
            f"http://{host}:{self.port}{path}",
            headers={"Host": f"{address}:{self.port}", "Accept-Encoding": "identity"},
            auth=(credential.user, credential.password) if credential else None,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        )

    def _shapes(self, state: State) -> "list[tuple[tuple[int, ...], np.dtype]]":
        # Imported here because only the reconciler calls this: web workers do without NumPy.
        from pygrid_wire import MalformedState, parse_state

        try:
            tensors = parse_state(state, largest=self.largest_model)
        except MalformedState as error:
            raise UnusableModel(f"The node's trained model can't be read: {error}") from error
        return [(tensor.shape, tensor.array_dtype) for tensor in tensors]


def _path_of(model: Model, checkpoint: str) -> str:
    query = {"name": model.name_on_node, "version": model.version, "checkpoint": checkpoint}
    return f"/model-centric/retrieve-model?{urlencode(query)}"


def _body(answer: requests.Response, *, seconds: float, largest: int) -> memoryview:
    """Read the body within `seconds` and `largest` bytes. A time-out per read would not bound the total."""
    deadline = time.monotonic() + seconds
    # Pages take memory when they are written, and are given back with the last view of them. The memory of a
    # bytearray would go to malloc, which keeps up to 32 MB for each thread.
    buffer = mmap(-1, largest, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    size = 0
    while chunk := answer.raw.read1(_CHUNK):  # returns available bytes without waiting for a full chunk
        if size + len(chunk) > largest:
            raise UnusableModel(f"The node's answer is larger than {largest} bytes.")
        buffer[size : size + len(chunk)] = chunk
        size += len(chunk)
        if time.monotonic() > deadline:
            raise NodeUnreachable(f"The node took longer than {seconds:.0f} s.")
    return memoryview(buffer)[:size]


def resolved(host: str, port: int, *, local_mode: bool) -> str:
    """Resolve a node's bare host name to an address that may be called. Raises NodeUnreachable."""
    if not _HOST_NAME.fullmatch(host):
        raise NodeUnreachable("The node's address is not a host name.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NodeUnreachable("The node's name can't be resolved.") from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not addresses or not all(_is_allowed(address, local_mode=local_mode) for address in addresses):
        raise NodeUnreachable("The node's name leads to an address where no node can be.")
    return str(addresses[0])


def _is_allowed(address: ipaddress.IPv4Address | ipaddress.IPv6Address, *, local_mode: bool) -> bool:
    """Return whether a node may have this address: any public or private one; loopback in local mode only."""
    address = getattr(address, "ipv4_mapped", None) or address
    if str(address) in _METADATA or address.is_link_local or address.is_multicast:
        return False
    if address.is_unspecified or address.is_reserved:
        return False
    return local_mode or not address.is_loopback
