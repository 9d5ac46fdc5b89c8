"""A node over HTTP, on a real socket: its bytes are a stranger's."""

import math
import time
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from orchestration.adapters.pygrid import PygridServer
from orchestration.domain.errors import NodeUnreachable, UnusableModel
from orchestration.domain.ports import NodeCredential
from pygrid_wire import syft_pb2 as pb
from pygrid_wire.state import encode_state
from tests.builders import a_model

pytestmark = pytest.mark.moto

HOST = "127.0.0.1"
NODE_ID = "n0123"
CREDENTIAL = NodeCredential(NODE_ID, "p-w_1")
IDENTITY = b'{"identity": "n0123"}'
UPLOADED = encode_state([np.zeros((2, 3), np.float32), np.zeros(3, np.float32)])
TRAINED = encode_state([np.ones((2, 3), np.float32), np.ones(3, np.float32)])

SERVER = PygridServer(probe_timeout=0.2, download_timeout=0.5, largest_model=1 << 20, local_mode=True)


@pytest.fixture
def node(serve, monkeypatch):
    """Serve a node; the adapter's fixed port is the server's."""

    def start(handle):
        url = serve(handle)
        monkeypatch.setattr("orchestration.adapters.pygrid.PORT", urlsplit(url).port)
        return url

    return start


@pytest.fixture
def hosting(node):
    """A node that answers with these checkpoints, and notes what it was asked."""
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

        node(handle)
        return queries

    return start


class TestAnswers:
    def test_the_node_itself_says_who_it_is(self, node):
        """An address may have gone to another's."""
        paths = []
        node(lambda request: (paths.append(request.path), request.answer(200, IDENTITY)))

        assert SERVER.answers(HOST, NODE_ID)
        assert not SERVER.answers(HOST, "n9999")
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
    def test_any_other_answer_is_none(self, node, status, body):
        """A load balancer answers 503 before its node does."""
        node(lambda request: request.answer(status, body))

        assert not SERVER.answers(HOST, NODE_ID)

    def test_a_redirect_is_not_followed(self, node, serve):
        """It could lead anywhere inside."""
        elsewhere = serve(lambda request: request.answer(200, IDENTITY))
        node(lambda request: request.answer(302, IDENTITY, Location=elsewhere))

        assert SERVER.answers(HOST, NODE_ID) is False

    def test_nobody_there_is_no_answer(self, monkeypatch):
        """And no error."""
        monkeypatch.setattr("orchestration.adapters.pygrid.PORT", 1)

        assert not SERVER.answers(HOST, NODE_ID)

    def test_a_silent_node_holds_nobody_up(self, node):
        """It froze the whole service for 32 s once."""
        node(lambda _: time.sleep(1))
        began = time.monotonic()

        assert not SERVER.answers(HOST, NODE_ID)
        assert time.monotonic() - began < 0.8

    def test_a_node_that_trickles_holds_nobody_up(self, node):
        """A byte now and then keeps any time-out per read from striking."""

        def trickle(request):
            request.begin(200)
            for _ in range(40):
                request.wfile.write(b" ")
                time.sleep(0.1)

        node(trickle)
        began = time.monotonic()

        assert not SERVER.answers(HOST, NODE_ID)
        assert time.monotonic() - began < 1.5

    def test_a_node_that_never_stops_fills_nobodys_memory(self, node):
        """An identity is short."""
        sent = []

        def flood(request):
            request.begin(200)
            for _ in range(3000):
                request.wfile.write(b" " * 65_536)
                sent.append(65_536)

        node(flood)

        assert not SERVER.answers(HOST, NODE_ID)
        assert sum(sent) < 32 << 20

    @pytest.mark.parametrize(
        "address", ["", "a b", "nowhere.invalid", "[", "x" * 70 + ".test", "a/../b", "\x00"]
    )
    def test_what_is_no_address_is_no_answer(self, address):
        """It never raises."""
        assert not SERVER.answers(address, NODE_ID)


class TestTrainedModel:
    def test_the_newest_checkpoint_comes_as_it_is(self, hosting):
        """Byte for byte; the first one is asked for its shapes."""
        queries = hosting(TRAINED)
        state = SERVER.trained_model(HOST, a_model(hosted_as="Net-1-Ada", version="2"), CREDENTIAL)
        asked = {"name": "Net-1-Ada", "version": "2"}

        assert state == TRAINED
        assert queries == [
            ("/model-centric/retrieve-model", asked | {"checkpoint": "latest"}),
            ("/model-centric/retrieve-model", asked | {"checkpoint": "1"}),
        ]

    def test_the_node_is_shown_its_credential(self, node):
        """Both times; our node wants it, the original doesn't look at it."""
        seen = []

        def handle(request):
            seen.append(request.headers["Authorization"])
            request.answer(200, TRAINED)

        node(handle)
        SERVER.trained_model(HOST, a_model(), CREDENTIAL)

        assert seen == ["Basic bjAxMjM6cC13XzE="] * 2

    def test_whoever_is_only_asked_for_its_name_is_shown_none(self, node):
        """The address may be another's by now."""
        seen = []
        node(lambda request: (seen.append(request.headers["Authorization"]), request.answer(200, IDENTITY)))
        SERVER.answers(HOST, NODE_ID)

        assert seen == [None]

    def test_names_are_free_text(self, hosting):
        """Nothing in one changes the request."""
        queries = hosting(TRAINED)
        SERVER.trained_model(HOST, a_model(model_id="a&version=9#ü /../x"), CREDENTIAL)

        assert queries[0][1] == {"name": "a&version=9#ü /../x", "version": "1", "checkpoint": "latest"}

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
    def test_other_shapes_than_the_uploaded_ones_are_refused(self, hosting, trained):
        """An error message was stored as "the model" once."""
        hosting(trained)

        with pytest.raises(UnusableModel, match="shapes"):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)

    @pytest.mark.parametrize(
        "trained",
        [b"", b"{}", b"Internal Server Error", b"\xff" * 100, TRAINED[:-5], TRAINED + b"\x00"],
        ids=["nothing", "JSON", "text", "noise", "cut off", "one byte more"],
    )
    def test_garbage_is_refused(self, hosting, trained):
        """With a cause for the owner."""
        hosting(trained)

        with pytest.raises(UnusableModel, match="can't be read"):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)

    @pytest.mark.parametrize("dims", [[1] * 65, [0, *[2**31 - 1] * 3]])
    def test_shapes_that_no_array_can_have_are_refused(self, hosting, dims):
        """A hostile node must not stop the retrieval of the models after it."""
        state = pb.State()
        data = state.tensors.add().torch_tensor.contents_data
        data.dtype = "int64"
        data.shape.dims.extend(dims)
        data.contents_int64.extend([] if 0 in dims else [1])
        hosting(state.SerializeToString())

        with pytest.raises(UnusableModel, match="can't be read"):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)

    @pytest.mark.parametrize("status", [400, 404, 500, 503, 204, 206])
    def test_any_status_but_200_is_refused(self, hosting, status):
        """Whatever its body says."""
        hosting(lambda request: request.answer(status, TRAINED))

        with pytest.raises(UnusableModel, match=str(status)):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)

    def test_a_redirect_is_not_followed(self, hosting, serve):
        """Never to a stored URL, never to another host."""
        asked = []
        elsewhere = serve(lambda request: (asked.append(request.path), request.answer(200, TRAINED)))
        hosting(lambda request: request.answer(302, b"", Location=elsewhere))

        with pytest.raises(UnusableModel, match="302"):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)
        assert asked == []

    def test_a_model_that_is_too_large_is_refused(self, hosting):
        """Before it fills the memory."""
        hosting(encode_state([np.ones(300_000, np.float32)]))

        with pytest.raises(UnusableModel, match="larger than 1048576"):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)

    def test_a_model_in_chunks_is_read_whole(self, hosting):
        """Of whatever size they come."""

        def chunks(request):
            request.begin(200)
            for byte in TRAINED:
                request.wfile.write(bytes([byte]))

        hosting(chunks)

        assert SERVER.trained_model(HOST, a_model(), CREDENTIAL) == TRAINED

    def test_a_node_that_trickles_is_left(self, hosting):
        """A time-out per read alone would let it go on for ever."""

        def trickle(request):
            request.begin(200, **{"Content-Length": "100000"})
            for _ in range(60):
                request.wfile.write(b"x")
                time.sleep(0.05)

        hosting(trickle)
        began = time.monotonic()

        with pytest.raises(NodeUnreachable, match="longer than"):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)
        assert time.monotonic() - began < 1.5

    def test_a_node_that_hangs_up_is_unreachable(self, hosting):
        """Half a model is none."""
        hosting(lambda request: request.begin(200, **{"Content-Length": "100000"}))

        with pytest.raises(NodeUnreachable):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)

    def test_a_silent_node_is_unreachable(self, hosting):
        """It will be asked again."""
        hosting(lambda _: time.sleep(2))

        with pytest.raises(NodeUnreachable):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)

    def test_nobody_there_is_unreachable(self, monkeypatch):
        """It will be asked again."""
        monkeypatch.setattr("orchestration.adapters.pygrid.PORT", 1)

        with pytest.raises(NodeUnreachable):
            SERVER.trained_model(HOST, a_model(), CREDENTIAL)


class TestNewestCheckpoint:
    """How far a model is, where its node doesn't say."""

    def test_the_node_is_shown_its_credential(self, node):
        """Without it, our node would say neither yes nor no."""
        seen = []
        node(lambda request: (seen.append(request.headers["Authorization"]), request.answer(404, b"")))
        SERVER.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)

        assert seen == ["Basic bjAxMjM6cC13XzE="]

    @pytest.fixture
    def having(self, node):
        """A node with so many checkpoints; returns the numbers it is asked for."""

        def have(newest):
            asked = []

            def answer(request):
                number = int(parse_qs(urlsplit(request.path).query)["checkpoint"][0])
                asked.append(number)
                request.answer(200 if number <= newest else 404, TRAINED)

            node(answer)
            return asked

        return have

    @pytest.mark.parametrize("newest", [1, 2, 3, 4, 7, 8, 9, 100, 1001])
    @pytest.mark.parametrize("beyond", [1, 2])
    def test_it_is_found_in_a_few_steps(self, having, newest, beyond):
        """Further and further, then between; each step may be a whole model on the node's side."""
        asked = having(newest)

        assert SERVER.newest_checkpoint(HOST, a_model(), CREDENTIAL, beyond) == max(newest, beyond)
        assert len(asked) <= 2 * math.log2(max(newest, 2)) + 2

    def test_a_node_that_says_yes_to_everything_is_not_believed(self, having):
        """It would be asked for ever greater numbers."""
        asked = having(10**30)

        with pytest.raises(UnusableModel, match="more checkpoints"):
            SERVER.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)
        assert len(asked) < 30

    @pytest.mark.parametrize("status", [401, 500, 302])
    def test_an_answer_that_says_neither_is_no_number(self, node, status):
        """The model stays as it is."""
        node(lambda request: request.answer(status, b""))

        with pytest.raises(UnusableModel, match=str(status)):
            SERVER.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)

    def test_a_silent_node_says_nothing(self, node):
        """It will be asked again."""
        node(lambda _: time.sleep(2))

        with pytest.raises(NodeUnreachable):
            SERVER.newest_checkpoint(HOST, a_model(), CREDENTIAL, 1)
