"""Where a node may be."""

import socket

import pytest

from orchestration.adapters.addresses import resolved
from orchestration.domain.errors import NodeUnreachable


@pytest.fixture
def names(monkeypatch):
    """A name service of our own: what each name leads to."""
    known = {}

    def getaddrinfo(host, port, **_):
        if host not in known:
            raise socket.gaierror(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.mark.parametrize("address", ["3.5.140.2", "10.0.3.4", "192.168.1.9", "2600:1f18::1"])
def test_a_node_is_on_the_internet_or_in_our_network(names, address):
    """The very address that was judged is called."""
    names["node.test"] = [address]

    assert resolved("node.test", 5000, local_mode=False) == address


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "fd00:ec2::254",
        "fe80::1",
        "::ffff:169.254.169.254",
        "127.0.0.1",
        "::1",
        "0.0.0.0",  # noqa: S104 - an address that is refused
        "224.0.0.1",
        "240.0.0.1",
    ],
)
def test_nothing_else_is_called(names, address):
    """A stack's output that leads to credentials, or back to us, is no node's."""
    names["node.test"] = [address]

    with pytest.raises(NodeUnreachable):
        resolved("node.test", 5000, local_mode=False)


def test_one_bad_address_among_good_ones_is_enough(names):
    """Which one is called would be chance."""
    names["node.test"] = ["3.5.140.2", "169.254.169.254"]

    with pytest.raises(NodeUnreachable):
        resolved("node.test", 5000, local_mode=False)


def test_this_machine_is_fine_in_local_mode(names):
    """There, nodes have addresses from 127.0.0.0/8; credentials stay out of reach."""
    names["node.test"], names["bad.test"] = ["127.9.8.7"], ["169.254.169.254"]

    assert resolved("node.test", 5000, local_mode=True) == "127.9.8.7"
    with pytest.raises(NodeUnreachable):
        resolved("bad.test", 5000, local_mode=True)


@pytest.mark.parametrize(
    "host", ["", "a b", "user@host", "host:80", "host/path", "-x", "x-", "h#x", "ü.test"]
)
def test_what_is_no_host_name_is_not_even_resolved(names, host):
    """A port, a path or a user in it would change whom we call."""
    names[host] = ["3.5.140.2"]

    with pytest.raises(NodeUnreachable):
        resolved(host, 5000, local_mode=False)


def test_an_unknown_name_is_unreachable(names):
    """The balancer's name takes a while to be known."""
    with pytest.raises(NodeUnreachable):
        resolved("nobody.test", 5000, local_mode=False)
