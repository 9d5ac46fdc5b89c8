import io
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from botocore.exceptions import ClientError
from click.testing import CliRunner

from local_platform.aws import OneAtATime, main
from local_platform.clients import kept
from local_platform.network import answers, claim_port
from local_platform.supervisor import Program, Supervisor


def environ(body=b"", **more):
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), **more}


def test_requests_are_answered_one_at_a_time():
    """moto's DynamoDB loses updates under threads."""
    inside, most = [], []

    def app(_environ, _start_response):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return [b"done"]

    serial = OneAtATime(app)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: serial(environ(), None), range(40)))

    assert results == [[b"done"]] * 40
    assert set(most) == {1}


def test_slow_sender_does_not_stop_the_others():
    """The body is read before the turn is taken."""
    arrived = threading.Event()

    class Slow(io.BytesIO):
        def read(self, *_):
            arrived.wait(10)
            return b"late"

    serial = OneAtATime(lambda environ, _: [environ["wsgi.input"].read()])
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(serial, environ() | {"wsgi.input": Slow()}, None)
        quick = serial(environ(b"quick"), None)
        arrived.set()

    assert quick == [b"quick"]
    assert late.result() == [b"late"]


def test_chunked_body_is_read_to_its_end():
    """Without a length, the server's stream ends by itself."""
    serial = OneAtATime(lambda environ, _: [environ["wsgi.input"].read()])
    chunked = environ(b"all of it", HTTP_TRANSFER_ENCODING="chunked") | {"CONTENT_LENGTH": ""}

    assert serial(chunked, None) == [b"all of it"]


def test_public_address_is_refused():
    """moto's keys are public: whoever reaches it can make any token."""
    result = CliRunner().invoke(main, ["--host", "0.0.0.0", "--port", "5055"])  # noqa: S104 - it is refused

    assert result.exit_code == 2
    assert "loopback" in result.output


@pytest.mark.moto
def test_no_increment_is_lost(aws):
    """200 devices may report at once."""
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName="counters",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"TableName": "counters", "Key": {"id": {"S": "one"}}}
    add = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": {"N": "1"}}}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: dynamodb.update_item(**item, **add), range(300)))

    assert dynamodb.get_item(**item)["Item"]["n"] == {"N": "300"}


@pytest.mark.moto
def test_failed_condition_shows_the_item(aws):
    """The service asks for it to save a second read."""
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName="conditions",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName="conditions", Item={"id": {"S": "one"}, "n": {"N": "1"}})
    with pytest.raises(ClientError) as caught:
        dynamodb.update_item(
            TableName="conditions",
            Key={"id": {"S": "one"}},
            UpdateExpression="SET n = :two",
            ConditionExpression="n = :two",
            ExpressionAttributeValues={":two": {"N": "2"}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )

    assert caught.value.response["Item"]["n"] == {"N": "1"}


@pytest.mark.moto
def test_presigned_link_opens_in_a_browser(aws):
    """That is how a trained model is downloaded; without the signature it stays closed."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="links")
    s3.put_object(Bucket="links", Key="a model-1.0-ada/model.safetensors", Body=b"weights")
    where = {"Bucket": "links", "Key": "a model-1.0-ada/model.safetensors"}
    link = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=60)

    assert requests.get(link, timeout=10).content == b"weights"
    assert requests.get(link.partition("?")[0], timeout=10).status_code == 403


@pytest.mark.moto
def test_server_leaves_on_term(tmp_path):
    """With status 0: it was asked to."""
    port = claim_port(0, "--port")
    command = (sys.executable, "-m", "local_platform.aws", "--port", str(port))
    program = Program("aws", command, kept(os.environ), tmp_path / "aws.log", is_replaceable=False)
    with Supervisor() as supervisor:
        supervisor.start(program)
        supervisor.wait_for("aws", lambda: answers(f"http://127.0.0.1:{port}/moto-api/"), 60)
        os.kill(supervisor.running()["aws"], signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not supervisor.lost() and time.monotonic() < deadline:
            time.sleep(0.02)

        assert supervisor.lost() == ["aws"]
    assert program.log.read_text() == ""
