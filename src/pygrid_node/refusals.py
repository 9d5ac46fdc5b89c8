"""The uploads that the orchestrator has refused lately, by the network of the uploader."""

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from pygrid_node.entities import UploadRequest
from pygrid_node.errors import TooManyRefusedUploads, UploadNotAllowed

_PERIOD = 60.0  # seconds
_PER_PERIOD = 5
_REMEMBERED = 30.0  # seconds
# Refusals after which the same upload is refused without a question. One may be too early: before `/create`.
_REPETITIONS = 2
_NETWORKS = 10_000


class Refusals:
    """Bounds how many refusals one network can cause: each is a request to the orchestrator.

    The orchestrator counts the requests of a node. So without a bound, a stranger who uploads junk would use
    up the requests that the uploads of others need.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, networks: int = _NETWORKS) -> None:
        """Forget the network without a refusal for the longest time when there are more than `networks`."""
        self._clock = clock
        self._networks = networks
        # For each network the time of its refusals and the hash of the upload, whose texts may be long. The
        # network with the latest refusal is last.
        self._by_network: dict[str, list[tuple[float, int]]] = {}

    def require_unknown(self, upload: UploadRequest) -> None:
        """Raise `UploadNotAllowed` or `TooManyRefusedUploads` if the orchestrator need not be asked."""
        now, refusals = self._clock(), self._recent(upload)
        same = [when for when, which in refusals if which == _hash(upload) and now < when + _REMEMBERED]
        if len(same) >= _REPETITIONS:
            raise UploadNotAllowed
        if len(refusals) >= _PER_PERIOD:
            raise TooManyRefusedUploads

    def add(self, upload: UploadRequest) -> None:
        """Remember that the orchestrator has refused an upload."""
        refusals = [*self._recent(upload), (self._clock(), _hash(upload))]
        network = network_of(upload.address)
        self._by_network.pop(network, None)
        self._by_network[network] = refusals
        while len(self._by_network) > self._networks:
            del self._by_network[next(iter(self._by_network))]

    def _recent(self, upload: UploadRequest) -> list[tuple[float, int]]:
        now = self._clock()
        refusals = self._by_network.get(network_of(upload.address), [])
        return [refusal for refusal in refusals if now < refusal[0] + _PERIOD]


def plain_address(address: str) -> str:
    """Return an IPv4 address in IPv6 (`::ffff:192.0.2.1`) as IPv4, and any other text unchanged."""
    parsed = _parsed(address)
    return address if parsed is None else str(parsed)


def network_of(address: str) -> str:
    """Return the network of a client: its /24 or, for IPv6, the /56 that a provider gives to a household.

    Every address of this machine (127.0.0.0/8) is a client of its own. Any other text is its own network.
    """
    parsed = _parsed(address)
    if parsed is None or parsed.is_loopback:
        return address if parsed is None else str(parsed)
    if isinstance(parsed, IPv4Address):
        return str(IPv4Network((parsed, 24), strict=False))
    return str(IPv6Network((int(parsed), 56), strict=False))  # as a number, it has no scope id


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def _hash(upload: UploadRequest) -> int:
    return hash((upload.name, upload.version, upload.token))
