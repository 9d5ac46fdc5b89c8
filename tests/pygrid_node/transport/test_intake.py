"""What messages and downloads hold of the budget, over real sockets and with a budget of a megabyte."""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from pygrid_node.storage.blobs import PART, Blob, pack
from pygrid_node.transport.intake import PER_BYTE, PER_DOWNLOAD, SMALL, Intake, Pace
from pygrid_node.transport.messages import AUTHENTICATE, CYCLE_REQUEST, HOST_TRAINING, REPORT
from tests.pygrid_node.transport import wire

BUDGET = 1_000_000
ROOM = BUDGET - BUDGET // 3 - BUDGET // 16  # the share of long messages
LONG = ROOM // PER_BYTE - 50_000  # bytes; there is room for one such message
POST_REPORT = wire.head("POST", f"/{REPORT}", f"Content-Length: {LONG}")
POST_CHUNKS = wire.head("POST", f"/{REPORT}", "Transfer-Encoding: chunked")
BUSY = "The node is busy with other messages. Try again in a minute."


def intake(**options):
    return Intake(BUDGET, **{"max_message": 2**24, "patience": 20} | options)


def report(size=LONG):
    """Return the JSON of a report of `size` bytes."""
    body = json.dumps({"diff": ""})
    return body.replace('""', f'"{"A" * (size - len(body))}"').encode()


def enveloped(size=LONG, kind=REPORT):
    """Return the JSON of a WebSocket message of `size` bytes."""
    body = json.dumps({"type": kind, "data": {"diff": ""}})
    return body.replace('""', f'"{"A" * (size - len(body))}"').encode()


def address(client):
    return f"{client.host}:{client.port}"


async def until(condition):
    """Wait for a condition; the test's own limit of time is the pytest run's."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def post(client, kind, body):
    async with client.post(f"/{kind}", data=body) as answer:
        return answer.status, await answer.json()


async def ask(client, body):
    async with client.ws_connect("/") as socket:
        await socket.send_bytes(body)
        answer = await socket.receive()
        return answer.json() if answer.type is aiohttp.WSMsgType.TEXT else (answer.data, answer.extra)


@pytest.mark.parametrize("first", ["http", "ws"])
@pytest.mark.parametrize("second", ["http", "ws"])
def test_long_message_waits_for_room_and_small_ones_pass(serve, recorder, first, second):
    """Both transports share the budget."""

    async def send(client, over):
        return await (post(client, REPORT, report()) if over == "http" else ask(client, enveloped()))

    async def story():
        recorder.gate = asyncio.Event()
        async with serve(used := intake()) as client:
            sent = [asyncio.create_task(send(client, first))]
            await until(lambda: recorder.messages)
            sent.append(asyncio.create_task(send(client, second)))
            small = [
                asyncio.create_task(post(client, AUTHENTICATE, '{"small": 1}')),
                asyncio.create_task(ask(client, json.dumps({"type": CYCLE_REQUEST, "data": {}}).encode())),
            ]
            await until(lambda: len(recorder.messages) == 3)
            during = [kind for kind, _ in recorder.messages], used.large.used
            recorder.gate.set()
            await asyncio.gather(*sent, *small)
            return during, [kind for kind, _ in recorder.messages], used.large.used, used.json.used

    (kinds, held), at_last, *left = asyncio.run(story())

    assert sorted(kinds) == sorted([REPORT, AUTHENTICATE, CYCLE_REQUEST])
    assert held == PER_BYTE * LONG
    assert at_last == [*kinds, REPORT]
    assert left == [0, 0]


def test_message_that_finds_no_room_in_time_is_refused(serve, recorder):
    """HTTP answers 503 with `Retry-After`, a WebSocket is closed with code 1013: try again later."""

    async def story():
        recorder.gate = asyncio.Event()
        async with serve(intake(patience=0.01)) as client:
            first = asyncio.create_task(post(client, REPORT, report()))
            await until(lambda: recorder.messages)
            async with client.post(f"/{REPORT}", data=report()) as answer:
                over_http = answer.status, answer.headers["Retry-After"], await answer.json()
            over_websocket = await ask(client, enveloped())
            recorder.gate.set()
            return over_http, over_websocket, (await first)[0]

    assert asyncio.run(story()) == ((503, "10", {"error": BUSY}), (1013, BUSY), 200)


def test_next_message_of_a_connection_is_not_read_before_the_answer(serve, recorder):
    """A client that sends many messages at once holds what one message needs."""

    async def story():
        recorder.gate = asyncio.Event()
        async with serve(used := intake()) as client:
            first = wire.frame(json.dumps({"type": AUTHENTICATE, "data": {}}).encode())
            async with wire.websocket(address(client), first + 5 * wire.frame(enveloped())) as (reader, _):
                await until(lambda: recorder.messages)
                held = used.large.used
                recorder.gate.set()
                await until(lambda: len(recorder.messages) == 6)
                return held, (await reader.readuntil(b"}}"))[2:]

    held, answer = asyncio.run(story())

    assert held == 0
    assert json.loads(answer)["type"] == AUTHENTICATE


BROKEN = {
    "length, nothing sent": (wire.connected, POST_REPORT),
    "length, a part sent": (wire.connected, POST_REPORT + b"x" * 1000),
    "chunks": (wire.connected, POST_CHUNKS + wire.chunk(b"x" * 60_000) * 3),
    "frame, nothing sent": (wire.websocket, wire.frame_head(LONG)),
    "frame, a part sent": (wire.websocket, wire.frame_head(LONG) + b"x" * 1000),
    "fragments": (wire.websocket, wire.frame(b"x" * 100_000, last=False)),
    "fragments and pings": (
        wire.websocket,
        wire.frame(b"x" * 100_000, last=False) + 3 * wire.frame(b"", 9) + wire.frame_head(100_000, 0),
    ),
}


@pytest.mark.parametrize(("connect", "data"), BROKEN.values(), ids=BROKEN)
def test_client_that_leaves_in_the_middle_holds_nothing(serve, connect, data):
    """Its share is there for the next message."""

    async def story():
        async with serve(used := intake()) as client:
            async with connect(address(client), data):
                await until(lambda: used.large.used)
            await until(lambda: not used.large.used)
            return await post(client, REPORT, report())

    assert asyncio.run(story())[0] == 200


@pytest.mark.parametrize(("connect", "data"), BROKEN.values(), ids=BROKEN)
def test_client_that_sends_too_slowly_holds_nothing(serve, connect, data):
    """HTTP answers 408, a WebSocket is closed with code 1008. Pings are no progress."""

    async def story():
        async with (
            serve(used := intake(pace=Pace(seconds=0.05, step=50_000))) as client,
            connect(address(client), data) as (reader, _),
        ):
            if connect is wire.connected:
                status, _, body = await wire.response(reader)
                answer = status, json.loads(body)["error"]
            else:
                answer = await wire.close_frame(reader)
            await until(lambda: not used.large.used)
            return answer

    expected = 408 if connect is wire.connected else 1008

    assert asyncio.run(story()) == (expected, "The message arrived too slowly.")


TRICKLES = {
    "chunks": (wire.connected, POST_CHUNKS + b"186a0\r\n" + b"x" * 100_000 + b"\r\n", b"1\r\nx\r\n"),
    "frames": (wire.websocket, wire.frame(b"x" * 100_000, last=False), wire.frame(b"x", 0, last=False)),
    "empty frames": (wire.websocket, wire.frame(b"x" * 100_000, last=False), wire.frame(b"", 0, last=False)),
}


@pytest.mark.parametrize(("connect", "data", "part"), TRICKLES.values(), ids=TRICKLES)
def test_small_parts_are_no_progress(serve, connect, data, part):
    """Else a client could hold most of the budget with one byte in ten seconds."""

    async def story():
        async with (
            serve(used := intake(pace=Pace(seconds=0.2, step=1_000_000))) as client,
            connect(address(client), data) as (_, writer),
        ):
            await until(lambda: used.large.used)
            with contextlib.suppress(ConnectionError):  # the node has disconnected
                async with asyncio.timeout(20):
                    while used.large.used:
                        writer.write(part)
                        await writer.drain()
                        await asyncio.sleep(0.01)

    asyncio.run(story())


@pytest.mark.parametrize("body", [b"{", b"[]", b"x" * LONG, report(), b'{"refuse": "a reason"}'])
def test_message_holds_nothing_after_its_answer(serve, body):
    """Whatever the answer is."""

    async def story():
        async with serve(used := intake()) as client:
            await post(client, REPORT, body)
            await ask(client, body)
            await ask(client, b'{"type": "%s", "data": %s}' % (REPORT.encode(), body))
            return used.large.used, used.json.used

    assert asyncio.run(story()) == (0, 0)


LIMITS = {
    "the setting for a message": ({"max_message": 200_000}, 200_000, "MAX_MESSAGE_BYTES"),
    "the budget": ({}, ROOM // PER_BYTE, "MAX_BYTES_IN_FLIGHT"),
}


@pytest.mark.parametrize(("options", "limit", "setting"), LIMITS.values(), ids=LIMITS)
def test_message_that_is_too_long_is_refused_before_it_is_read(serve, options, limit, setting):
    """The sentence names the limit and its setting. A message of this length passes when it is alone."""
    sentence = f"A message to this node has at most {limit} bytes (its setting {setting})."
    over_http = [
        wire.head("POST", f"/{REPORT}", f"Content-Length: {limit + 1}"),
        POST_CHUNKS + wire.chunk(b"x" * limit) + b"1\r\nx",
    ]
    over_websocket = [
        wire.frame_head(limit + 1),
        wire.frame_head(2**63),
        wire.frame(b"x" * limit, last=False) + wire.frame(b"", 9) + wire.frame_head(1, 0),
    ]

    async def story():
        answers = []
        async with serve(used := intake(**options)) as client:
            for data in over_http:
                async with wire.connected(address(client), data) as (reader, _):
                    status, _, body = await wire.response(reader)
                    answers.append((status, json.loads(body)["error"]))
            for data in over_websocket:
                async with wire.websocket(address(client), data) as (reader, _):
                    answers.append(await wire.close_frame(reader))
            await until(lambda: not used.large.used)
            longest = (await post(client, REPORT, report(limit)))[0], await ask(client, enveloped(limit))
            return answers, longest

    answers, longest = asyncio.run(story())

    assert answers == [(413, sentence)] * 2 + [(1009, sentence)] * 3
    assert longest == (200, {"type": REPORT, "data": {"kind": REPORT}})


@pytest.mark.parametrize("kind", [AUTHENTICATE, CYCLE_REQUEST])
def test_small_kind_is_refused_over_http_before_it_is_read(serve, recorder, kind):
    """The route says that it is small."""
    sentence = f"A message of this kind has at most {SMALL} bytes."

    async def story():
        async with serve(used := Intake(2**26, max_message=2**24)) as client:
            announced = wire.head("POST", f"/{kind}", f"Content-Length: {SMALL + 1}")
            async with wire.connected(address(client), announced) as (reader, _):
                status, _, body = await wire.response(reader)
            longest = await post(client, kind, b'{"a": 1}'.ljust(SMALL))
            return status, json.loads(body), longest, used.large.used

    assert asyncio.run(story()) == (413, {"error": sentence}, (200, {"kind": kind}), 0)


def test_small_kind_is_refused_over_websocket_when_it_is_known(serve, recorder):
    """The connection stays open; kinds that do not exist are small."""
    sentence = f"A message of this kind has at most {SMALL} bytes."

    async def story():
        async with serve() as client:
            return [
                await ask(client, enveloped(SMALL + 1, kind)) for kind in (AUTHENTICATE, CYCLE_REQUEST, "x")
            ]

    assert asyncio.run(story()) == [
        {"type": AUTHENTICATE, "data": {"error": sentence}},
        {"type": CYCLE_REQUEST, "data": {"status": "rejected", "error": sentence}},
        {"error": sentence},
    ]
    assert recorder.messages == []


def test_json_waits_for_a_share_of_its_own(serve, recorder):
    """As Python objects, JSON takes many times its length."""
    body = b'{"a": [%s0]}' % (b"0," * 500)

    async def story():
        recorder.gate = asyncio.Event()
        async with serve(intake(patience=0.01)) as client:
            first = asyncio.create_task(post(client, REPORT, body))
            await until(lambda: recorder.messages)
            over_http = await post(client, AUTHENTICATE, body)
            over_websocket = await ask(client, body)
            alone = await post(client, REPORT, b'{"a": [%s0]}' % (b"0," * 5000))
            recorder.gate.set()
            return over_http, over_websocket, alone[0], (await first)[0]

    assert asyncio.run(story()) == ((503, {"error": BUSY}), {"error": BUSY}, 413, 200)


class Models:
    """Downloads of a model, which has more bytes than sockets buffer."""

    def __init__(self, size):
        packed = pack(bytes(size))
        self._blob = Blob(packed.first, lambda number: packed.others[number - 1])

    def model(self, _query):
        return self._blob

    plan = protocol = checkpoint = measuring_worker = model


def test_download_waits_for_a_share_and_a_client_that_does_not_read_loses_it(serve):
    """The others are answered 503 until then."""
    size = 32 * PART
    request = wire.head("GET", "/model-centric/get-model")
    room_for_one = Intake(4 * PER_DOWNLOAD, max_message=1, patience=0.01, pace=Pace(seconds=0.3, step=1))

    async def story():
        async with serve(room_for_one, downloads=Models(size)) as client:
            async with wire.connected(address(client), request) as (stuck, _):
                await stuck.readuntil(b"\r\n\r\n")
                async with client.get("/model-centric/get-model") as answer:
                    refused = answer.status, await answer.json()
                await until(lambda: not room_for_one.downloads.used)
            async with client.get("/model-centric/get-model") as answer:
                return refused, len(await answer.read())

    refused, complete = asyncio.run(story())

    assert refused == (503, {"error": BUSY})
    assert complete == size


def test_host_training_may_be_long(serve, recorder):
    """Like a report, it may have any length up to the limit."""

    async def story():
        async with serve(intake()) as client:
            return await ask(client, enveloped(LONG, HOST_TRAINING))

    assert asyncio.run(story())["data"] == {"kind": HOST_TRAINING}


@pytest.mark.parametrize("over", ["http", "ws"])
def test_long_answer_waits_for_the_share_of_downloads(serve, recorder, over):
    """A client that does not read it makes the node keep it."""
    used = Intake(4 * PER_DOWNLOAD, max_message=2**20, patience=0.01)
    body = b'{"type": "%s", "data": {}}' % REPORT.encode()

    async def story():
        async with serve(used) as client, used.download():
            if over == "ws":
                return await ask(client, body)
            return await post(client, REPORT, body)

    recorder.answer_with = {"text": "x" * SMALL}
    refused = asyncio.run(story())

    assert refused == ((503, {"error": BUSY}) if over == "http" else (1013, BUSY))


@pytest.mark.parametrize("over", ["http", "ws"])
def test_long_answer_is_sent_whole(serve, recorder, over):
    """A model may have a long `client_config`, which each worker receives."""
    recorder.answer_with = {"text": "x" * 300_000}

    async def story():
        async with serve() as client:
            if over == "ws":
                return (await ask(client, b'{"type": "%s", "data": {}}' % REPORT.encode()))["data"]
            return (await post(client, REPORT, b"{}"))[1]

    assert asyncio.run(story()) == recorder.answer_with
