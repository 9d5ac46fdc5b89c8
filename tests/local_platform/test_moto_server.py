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

from local_platform.moto_server import OneAtATime, main
from local_platform.network import answers, available_port
from local_platform.supervisor import Program, Supervisor, inherited
from tests.local_platform.waiting import until


def environ(body=b"", **more):
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), **more}


def test_requests_are_answered_one_at_a_time():
    """Under threads, moto's DynamoDB loses updates."""
    inside, counts = [], []

    def app(_environ, _start_response):
        inside.append(1)
        counts.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return [b"done"]

    serial = OneAtATime(app)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: serial(environ(), None), range(40)))

    assert results == [[b"done"]] * 40
    assert set(counts) == {1}


def test_slow_sender_does_not_block_other_requests():
    """The body is read before the lock is taken."""
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
    """A chunked request has no content length."""
    serial = OneAtATime(lambda environ, _: [environ["wsgi.input"].read()])
    chunked = environ(b"all of it", HTTP_TRANSFER_ENCODING="chunked") | {"CONTENT_LENGTH": ""}

    assert serial(chunked, None) == [b"all of it"]


def test_public_address_is_refused():
    """moto's private keys are public, so any token could be forged."""
    result = CliRunner().invoke(main, ["--host", "0.0.0.0", "--port", "5055"])  # noqa: S104 - it is refused

    assert result.exit_code == 2
    assert "loopback" in result.output


@pytest.mark.moto
def test_no_increment_is_lost(aws):
    """Hundreds of devices may report at once."""
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
def test_failed_condition_returns_the_item(aws):
    """The service requests the item to save a second read."""
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
def test_presigned_link_needs_no_credentials(aws):
    """Trained models are downloaded by such a link; without its signature, S3 refuses."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="links")
    s3.put_object(Bucket="links", Key="a model-1.0-ada/model.safetensors", Body=b"weights")
    where = {"Bucket": "links", "Key": "a model-1.0-ada/model.safetensors"}
    link = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=60)

    assert requests.get(link, timeout=10).content == b"weights"
    assert requests.get(link.partition("?")[0], timeout=10).status_code == 403


@pytest.mark.moto
def test_server_stops_silently_on_sigterm(tmp_path):
    """No traceback in its log."""
    port = available_port(0, "--port")
    command = (sys.executable, "-m", "local_platform.moto_server", "--port", str(port))
    program = Program("aws", command, inherited(os.environ), tmp_path / "aws.log", restart=False)
    with Supervisor() as supervisor:
        supervisor.start(program)
        supervisor.wait_for("aws", lambda: answers(f"http://127.0.0.1:{port}/moto-api/"), 60)
        os.kill(supervisor.running()["aws"], signal.SIGTERM)

        assert until(supervisor.lost) == ["aws"]
    assert program.log.read_text() == ""
