"""Where a node may be: its name is resolved once, judged, and that very address is called.

A name that is resolved again for the call could lead somewhere else by then (DNS rebinding).
"""

import ipaddress
import re
import socket

from orchestration.domain.errors import NodeUnreachable

HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)

METADATA = frozenset({"169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd00:ec2::23"})
"""Where EC2 and ECS hand out credentials, to whoever asks from inside."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def resolved(host: str, port: int, *, local_mode: bool) -> str:
    """Return the address to call for a node's bare host name. Raises NodeUnreachable."""
    if not HOST_NAME.fullmatch(host):
        raise NodeUnreachable("The node's address is not a host name.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NodeUnreachable("The node's name can't be resolved.") from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not addresses or not all(is_allowed(address, local_mode=local_mode) for address in addresses):
        raise NodeUnreachable("The node's name leads to an address where no node can be.")
    return str(addresses[0])


def is_allowed(address: Address, *, local_mode: bool) -> bool:
    """Whether a node can be there: on the internet or in our network, on this machine in local mode only."""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if str(address) in METADATA or address.is_link_local or address.is_multicast:
        return False
    if address.is_unspecified or address.is_reserved:
        return False
    return local_mode or not address.is_loopback
