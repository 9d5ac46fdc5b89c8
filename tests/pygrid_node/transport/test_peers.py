"""The address of a client, directly and behind load balancers, over both transports."""

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from pygrid_node.transport.messages import KINDS, REPORT
from pygrid_node.transport.peers import Peers

CLIENT, PROXY, FORGED = "198.51.100.7", "203.0.113.9", "192.0.2.66"


def address(trusted, *headers):
    """Return the address of a request whose socket's peer is 127.0.0.1."""
    lines = CIMultiDict(("X-Forwarded-For", header) for header in headers)
    transport = Transport()
    return Peers(trusted).address(make_mocked_request("GET", "/", headers=lines, transport=transport))


class Transport:
    """A connection from 127.0.0.1."""

    def get_extra_info(self, name):
        return ("127.0.0.1", 54321) if name == "peername" else None


@pytest.mark.parametrize(
    ("trusted", "headers", "expected"),
    [
        (0, [CLIENT], "127.0.0.1"),
        (1, [CLIENT], CLIENT),
        (1, [f"{FORGED}, {CLIENT}"], CLIENT),
        (1, [FORGED, CLIENT], CLIENT),
        (2, [f"{FORGED}, {CLIENT}, {PROXY}"], CLIENT),
        (2, [f"{FORGED},{CLIENT}", PROXY], CLIENT),
        (1, ["2001:DB8::1"], "2001:db8::1"),
        (1, [], "127.0.0.1"),
        (2, [CLIENT], "127.0.0.1"),
        (1, [""], "127.0.0.1"),
        (1, [f"{CLIENT}, "], "127.0.0.1"),
        (1, ["unknown"], "127.0.0.1"),
        (1, ["198.51.100.7:4711"], "127.0.0.1"),
        (1, ["<script>"], "127.0.0.1"),
    ],
)
def test_address_is_what_the_last_trusted_proxy_has_added(trusted, headers, expected):
    """A client can put anything before it. Without an address there, the socket's peer counts."""
    assert address(trusted, *headers) == expected


@pytest.mark.parametrize(("trusted", "expected"), [(0, "127.0.0.1"), (1, CLIENT)])
def test_both_transports_pass_the_address_to_the_handler(serve, recorder, trusted, expected):
    """The address of a WebSocket is that of its handshake."""
    headers = {"X-Forwarded-For": f"{FORGED}, {CLIENT}"}

    async def send():
        async with serve(peers=Peers(trusted)) as client:
            await client.post(f"/{REPORT}", data="{}", headers=headers)
            async with client.ws_connect("/", headers=headers) as socket:
                for kind in sorted(KINDS):
                    await socket.send_json({"type": kind, "data": {}})
                    await socket.receive_json()

    asyncio.run(send())

    assert recorder.addresses == [(kind, expected) for kind in (REPORT, *sorted(KINDS))]
