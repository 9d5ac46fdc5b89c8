"""The address of a client, directly and behind load balancers, over both transports."""

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from multidict import CIMultiDict

from pygrid_node.downloads import Downloads
from pygrid_node.transport.http import HttpApi
from pygrid_node.transport.messages import KINDS, REPORT, Messages
from pygrid_node.transport.peers import Peers
from pygrid_node.transport.websocket import WebSocketApi

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


class Recorder(Messages):
    """Records the addresses of the messages that it answers."""

    def __init__(self):
        self.addresses = []

    async def answer(self, kind, data, address):
        self.addresses.append((kind, address))
        return data


@pytest.mark.parametrize(("trusted", "expected"), [(0, "127.0.0.1"), (1, CLIENT)])
def test_both_transports_pass_the_address_to_the_handler(trusted, expected):
    """The address of a WebSocket is that of its handshake."""
    recorder, peers = Recorder(), Peers(trusted)
    sockets = WebSocketApi(recorder, peers, node_id="n", max_message=1000)
    api = HttpApi(
        recorder,
        Downloads(None, None),
        sockets,
        peers,
        node_id="n",
        max_message=1000,
        authorization=None,
    )
    headers = {"X-Forwarded-For": f"{FORGED}, {CLIENT}"}

    async def send():
        async with TestClient(TestServer(api.app())) as client:
            await client.post(f"/{REPORT}", data="{}", headers=headers)
            async with client.ws_connect("/", headers=headers) as socket:
                for kind in sorted(KINDS):
                    await socket.send_json({"type": kind, "data": {}})
                    await socket.receive_json()

    asyncio.run(send())

    assert recorder.addresses == [(kind, expected) for kind in (REPORT, *sorted(KINDS))]
