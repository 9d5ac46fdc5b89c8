"""A node over HTTP, on a real socket; the addresses of nodes, with a faked name service."""

import math
import socket
import time
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from orchestration.adapters.pygrid import PygridServer, resolved
from orchestration.domain.errors import NodeUnreachable, UnusableModel
from orchestration.domain.node import NODE_PORT
from orchestration.domain.ports import NodeCredential
from pygrid_node.settings import Settings as NodeSettings
from pygrid_wire import syft_pb2 as pb
from pygrid_wire.state import encode_state
from tests.builders import a_model

HOST = "127.0.0.1"
NODE_ID = "n0123"
CREDENTIAL = NodeCredential(NODE_ID, "p-w_1")
IDENTITY = b'{"identity": "n0123"}'
UPLOADED = encode_state([np.zeros((2, 3), np.float32), np.zeros(3, np.float32)])
TRAINED = encode_state([np.ones((2, 3), np.float32), np.ones(3, np.float32)])

SERVER = PygridServer(probe_timeout=0.2, download_timeout=0.5, largest_model=1 << 20, local_mode=True, port=1)
"""Port 1 refuses every connection."""


@pytest.fixture
def node(serve):
    """Serve a node; returns an adapter that calls the node's port."""

    def start(handle):
        return replace(SERVER, port=urlsplit(serve(handle)).port)

    return start


@pytest.fixture
def hosting(node):
    """Serve a node with these checkpoints; returns an adapter and the list of received requests."""
    queries = []

    def start(trained, uploaded=UPLOADED):
        def handle(request):
            url = urlsplit(request.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            queries.append((url.path, query))
            state = trained if query["checkpoint"] == "latest" else uploaded
            if callable(state):
                state(request)
            else:
                request.answer(200, state)

        return node(handle), queries

    return start


@pytest.mark.moto
class TestAnswers:
    def test_node_with_this_id_answers(self, node):
        """AWS may have given the address to another node."""
        paths = []
        server = node(lambda request: (paths.append(request.path), request.answer(200, IDENTITY)))

        assert server.answers(HOST, NODE_ID)
        assert not server.answers(HOST, "n9999")
        assert paths == ["/data-centric/identity/"] * 2

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (404, IDENTITY),
            (500, IDENTITY),
            (503, b""),
            (200, b""),
            (200, b"<html>"),
            (200, b'"n0123"'),
            (200, b"[]"),
            (200, b"null"),
            (200, b"{}"),
            (200, b'{"identity": null}'),
            (200, b'{"identity": ["n0123"]}'),
            (200, b"\xff\xfe"),
            (200, b"[" * 100_000),
        ],
    )
    def test_other_response_is_no_answer(self, node, status, body):
        """A load balancer answers 503 before its node does."""
        server = node(lambda request: request.answer(status, body))

        assert not server.answers(HOST, NODE_ID)

    def test_redirect_is_not_followed(self, node, serve):
        """It could lead to any server of the network."""
        elsewhere = serve(lambda request: request.answer(200, IDENTITY))
        server = node(lambda request: request.answer(302, IDENTITY, Location=elsewhere))

        assert server.answers(HOST, NODE_ID) is False

    def test_refused_connection_is_no_answer(self):
        """It raises no error."""
        assert not SERVER.answers(HOST, NODE_ID)

    def test_probe_of_silent_node_times_out(self, node):
        """A probe without a time-out blocked the former service for 32 s."""
        server = node(lambda _: time.sleep(1))
        began = time.monotonic()

        assert not server.answers(HOST, NODE_ID)
        assert time.monotonic() - began < 0.8

    def test_probe_of_slow_node_times_out(self, node):
        """A byte every 100 ms never exceeds a time-out per read."""

        def trickle(request):
            request.begin(200)
            for _ in range(40):
                request.wfile.write(b" ")
                time.sleep(0.1)

        server = node(trickle)
        began = time.monotonic()

        assert not server.answers(HOST, NODE_ID)
        assert time.monotonic() - began < 1.5

    def test_endless_response_is_not_read(self, node):
        """An identity fits into 4096 bytes."""
        sent = []

        def flood(request):
            request.begin(200)
            for _ in range(3000):
                request.wfile.write(b" " * 65_536)
                sent.append(65_536)

        server = node(flood)

        assert not server.answers(HOST, NODE_ID)
        assert sum(sent) < 32 << 20

    @pytest.mark.parametrize(
        "address", ["", "a b", "nowhere.invalid", "[", "x" * 70 + ".test", "a/../b", "\x00"]
    )
    def test_invalid_address_is_no_answer(self, address):
        """It raises no error."""
        assert not SERVER.answers(address, NODE_ID)


@pytest.mark.moto
class TestTrainedModel:
    def test_newest_checkpoint_is_returned_unchanged(self, hosting):
        """The first checkpoint is retrieved for its shapes, before: one of them is in memory at a time."""
        server, queries = hosting(TRAINED)
        state = server.trained_model(HOST, a_model(hosted_as="Net-1-Ada", version="2"), CREDENTIAL)
        query = {"name": "Net-1-Ada", "version": "2"}

        assert state == TRAINED
        assert queries == [
            ("/model-centric/retrieve-model", query | {"checkpoint": "1"}),
            ("/model-centric/retrieve-model", query | {"checkpoint": "latest"}),
        ]

    def test_credential_is_sent_with_both_requests(self, node):
        """Our node requires it; the original node ignores it."""
        seen = []

        def handle(request):
            seen.append(request.headers["Authorization"])
            request.answer(200, TRAINED)

        server = node(handle)
        server.trained_model(HOST, a_model(), CREDENTIAL)

        assert seen == ["Basic bjAxMjM6cC13XzE="] * 2

    def test_probe_sends_no_credential(self, node):
        """AWS may have given the address to another server."""
        seen = []
        server = node(
            lambda request: (seen.append(request.headers["Authorization"]), request.answer(200, IDENTITY))
        )
        server.answers(HOST, NODE_ID)

        assert seen == [None]

    def test_model_names_are_encoded(self, hosting):
        """A name is free text and can't change the request."""
        server, queries = hosting(TRAINED)
        server.trained_model(HOST, a_model(model_id="a&version=9#ü /../x"), CREDENTIAL)

        assert queries[0][1] == {"name": "a&version=9#ü /../x", "version": "1", "checkpoint": "1"}

    @pytest.mark.parametrize(
        "trained",
        [
            encode_state([np.ones((3, 2), np.float32), np.ones(3, np.float32)]),
            encode_state([np.ones((2, 3), np.float32)]),
            encode_state([np.ones((2, 3), np.float32), np.ones(3, np.float64)]),
            encode_state([np.ones(3, np.float32), np.ones((2, 3), np.float32)]),
            encode_state([np.ones((2, 3), np.float32)] * 3),
        ],
        ids=["another shape", "one too few", "another type", "another order", "one too many"],
    )
    def test_other_shapes_than_uploaded_are_refused(self, hosting, trained):
        """The former service stored an error message as the model."""
        server, _ = hosting(trained)

        with pytest.raises(UnusableModel, match="shapes"):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    @pytest.mark.parametrize(
        "trained",
        [b"", b"{}", b"Internal Server Error", b"\xff" * 100, TRAINED[:-5], TRAINED + b"\x00"],
        ids=["nothing", "JSON", "text", "noise", "cut off", "one byte more"],
    )
    def test_other_content_than_a_state_is_refused(self, hosting, trained):
        """The message tells the owner why."""
        server, _ = hosting(trained)

        with pytest.raises(UnusableModel, match="can't be read"):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    @pytest.mark.parametrize("dims", [[1] * 65, [0, *[2**31 - 1] * 3]])
    def test_impossible_shapes_are_refused(self, hosting, dims):
        """The error must not stop the retrieval of other models."""
        state = pb.State()
        data = state.tensors.add().torch_tensor.contents_data
        data.dtype = "int64"
        data.shape.dims.extend(dims)
        data.contents_int64.extend([] if 0 in dims else [1])
        server, _ = hosting(state.SerializeToString())

        with pytest.raises(UnusableModel, match="can't be read"):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    @pytest.mark.parametrize("status", [400, 404, 500, 503, 204, 206])
    def test_other_status_than_200_is_refused(self, hosting, status):
        """Even with a valid model as its body."""
        server, _ = hosting(lambda request: request.answer(status, TRAINED))

        with pytest.raises(UnusableModel, match=str(status)):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    def test_redirect_is_not_followed(self, hosting, serve):
        """It could lead to another host, with the credential."""
        requests = []
        elsewhere = serve(lambda request: (requests.append(request.path), request.answer(200, TRAINED)))
        server, _ = hosting(lambda request: request.answer(302, b"", Location=elsewhere))

        with pytest.raises(UnusableModel, match="302"):
            server.trained_model(HOST, a_model(), CREDENTIAL)
        assert requests == []

    def test_too_large_model_is_refused(self, hosting):
        """Reading stops at the limit, so that memory is bounded."""
        server, _ = hosting(encode_state([np.ones(300_000, np.float32)]))

        with pytest.raises(UnusableModel, match="larger than 1048576"):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    @pytest.mark.parametrize("number", ["first", "newest"])
    def test_model_that_is_too_large_when_decoded_is_refused(self, hosting, number):
        """An int64 of one byte on the wire has eight bytes in memory."""
        zeros = encode_state([np.zeros((1 << 17) + 1, np.int64)])
        server, _ = hosting(trained=zeros, uploaded=zeros if number == "first" else UPLOADED)

        with pytest.raises(UnusableModel, match="take 1048584 bytes when decoded, more than 1048576"):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    def test_model_in_chunks_is_read_completely(self, hosting):
        """Chunks may have any size."""

        def chunks(request):
            request.begin(200)
            for byte in TRAINED:
                request.wfile.write(bytes([byte]))

        server, _ = hosting(chunks)

        assert server.trained_model(HOST, a_model(), CREDENTIAL) == TRAINED

    def test_slow_download_times_out(self, hosting):
        """The time-out bounds the whole download, not each read."""

        def trickle(request):
            request.begin(200, **{"Content-Length": "100000"})
            for _ in range(60):
                request.wfile.write(b"x")
                time.sleep(0.05)

        server, _ = hosting(trickle)
        began = time.monotonic()

        with pytest.raises(NodeUnreachable, match="longer than"):
            server.trained_model(HOST, a_model(), CREDENTIAL)
        assert time.monotonic() - began < 1.5

    def test_incomplete_body_is_unreachable(self, hosting):
        """A part of a model is never stored."""
        server, _ = hosting(lambda request: request.begin(200, **{"Content-Length": "100000"}))

        with pytest.raises(NodeUnreachable):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    def test_silent_node_is_unreachable(self, hosting):
        """The reconciler tries again in a later pass."""
        server, _ = hosting(lambda _: time.sleep(2))

        with pytest.raises(NodeUnreachable):
            server.trained_model(HOST, a_model(), CREDENTIAL)

    def test_refused_connection_is_unreachable(self):
        """The reconciler tries again in a later pass."""
        with pytest.raises(NodeUnreachable):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)


@pytest.mark.moto
class TestNewestCheckpoint:
    """Finds how many cycles a model has closed, if its node sends no progress."""

    def test_credential_is_sent(self, node):
        """Without it, our node answers 401 for every checkpoint."""
        seen = []
        server = node(
            lambda request: (seen.append(request.headers["Authorization"]), request.answer(404, b""))
        )
        server.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)

        assert seen == ["Basic bjAxMjM6cC13XzE="]

    @pytest.fixture
    def having(self, node):
        """Serve a node with this many checkpoints; returns an adapter and the list of requested numbers."""

        def have(newest):
            requests = []

            def answer(request):
                number = int(parse_qs(urlsplit(request.path).query)["checkpoint"][0])
                requests.append(number)
                request.answer(200 if number <= newest else 404, TRAINED)

            return node(answer), requests

        return have

    @pytest.mark.parametrize("newest", [1, 2, 3, 4, 7, 8, 9, 100, 1001])
    @pytest.mark.parametrize("beyond", [1, 2])
    def test_search_takes_logarithmic_steps(self, having, newest, beyond):
        """The node may read a whole model from its database for each request."""
        server, requests = having(newest)

        assert server.newest_checkpoint(HOST, a_model(), CREDENTIAL, beyond) == max(newest, beyond)
        assert len(requests) <= 2 * math.log2(max(newest, 2)) + 2

    @pytest.mark.parametrize("newest", [0, 1, 7])
    def test_model_is_hosted_if_it_has_a_checkpoint(self, having, newest):
        """The node creates the first one from the upload."""
        server, requests = having(newest)

        assert server.hosts(HOST, a_model(), CREDENTIAL) is (newest > 0)
        assert len(requests) == 1

    def test_node_with_too_many_checkpoints_is_refused(self, having):
        """A node that confirms every number would never end the search."""
        server, requests = having(10**30)

        with pytest.raises(UnusableModel, match="more checkpoints"):
            server.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)
        assert len(requests) < 30

    @pytest.mark.parametrize("status", [401, 500, 302])
    def test_other_status_than_200_or_404_is_refused(self, node, status):
        """The model's record stays unchanged."""
        server = node(lambda request: request.answer(status, b""))

        with pytest.raises(UnusableModel, match=str(status)):
            server.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)

    def test_silent_node_is_unreachable(self, node):
        """The reconciler tries again in a later pass."""
        server = node(lambda _: time.sleep(2))

        with pytest.raises(NodeUnreachable):
            server.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)


class TestAddresses:
    @pytest.fixture
    def names(self, monkeypatch):
        """Fake the name service: maps each known name to its addresses."""
        known = {}

        def getaddrinfo(host, port, **_):
            if host not in known:
                raise socket.gaierror(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return known

    @pytest.mark.parametrize("address", ["3.5.140.2", "10.0.3.4", "192.168.1.9", "2600:1f18::1"])
    def test_public_and_private_addresses_are_allowed(self, names, address):
        """The address that was checked is returned."""
        names["node.test"] = [address]

        assert resolved("node.test", NODE_PORT, local_mode=False) == address

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
    def test_special_addresses_are_refused(self, names, address):
        """They lead to credentials of this service, or to itself."""
        names["node.test"] = [address]

        with pytest.raises(NodeUnreachable):
            resolved("node.test", NODE_PORT, local_mode=False)

    def test_one_refused_address_refuses_the_name(self, names):
        """The order of addresses is arbitrary."""
        names["node.test"] = ["3.5.140.2", "169.254.169.254"]

        with pytest.raises(NodeUnreachable):
            resolved("node.test", NODE_PORT, local_mode=False)

    def test_loopback_is_allowed_in_local_mode(self, names):
        """Local nodes have addresses of 127.0.0.0/8; metadata addresses stay refused."""
        names["node.test"], names["bad.test"] = ["127.9.8.7"], ["169.254.169.254"]

        assert resolved("node.test", NODE_PORT, local_mode=True) == "127.9.8.7"
        with pytest.raises(NodeUnreachable):
            resolved("bad.test", NODE_PORT, local_mode=True)

    @pytest.mark.parametrize(
        "host", ["", "a b", "user@host", "host:80", "host/path", "-x", "x-", "h#x", "ü.test"]
    )
    def test_invalid_host_name_is_not_resolved(self, names, host):
        """A port, a path or a user in it would change the called URL."""
        names[host] = ["3.5.140.2"]

        with pytest.raises(NodeUnreachable):
            resolved(host, NODE_PORT, local_mode=False)

    @pytest.mark.usefixtures("names")
    def test_unknown_name_is_unreachable(self):
        """The name of a new load balancer resolves after some minutes only."""
        with pytest.raises(NodeUnreachable):
            resolved("unknown.test", NODE_PORT, local_mode=False)


def test_nodes_listen_on_the_port_that_the_service_calls():
    """Service and node share no code, so each has the number as its default."""
    assert PygridServer().port == NodeSettings.model_fields["port"].default == NODE_PORT
