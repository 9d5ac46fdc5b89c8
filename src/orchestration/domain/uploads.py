"""Uploads of models to nodes: an upload is bound to whoever called `/create` for the model."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

from orchestration.domain.errors import InvalidRequest

SEEN_WITHIN = 3600.0
"""Seconds for which an address at `/create` allows uploads from its network."""


class UploadBinding(StrEnum):
    """How an upload is bound to the caller of `/create`."""

    ADDRESS = "address"  # it comes from the caller's network, or has the upload token
    TOKEN = "token"  # it has the upload token  # noqa: S105 - no secret
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload, as a node describes it."""

    model_id: str
    version: str
    address: str | None = None
    """Where the upload comes from. The original node doesn't say."""
    token: str | None = None


def network_of(address: str) -> str:
    """Return the network that one caller's addresses share: /24 of IPv4, /56 of IPv6.

    Raises InvalidRequest if `address` is no address.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        raise InvalidRequest("address must be an IPv4 or IPv6 address.") from None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if isinstance(ip, IPv4Address):
        return str(IPv4Network((int(ip), 24), strict=False))
    return str(IPv6Network((int(ip), 56), strict=False))
