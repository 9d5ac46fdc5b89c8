"""The bucket of trained models: its content, and its presigned URLs."""

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import requests
from botocore.stub import Stubber
from safetensors import safe_open
from safetensors.numpy import load

from orchestration.adapters.model_bucket import S3ModelBucket, as_safetensors
from orchestration.domain.errors import UnusableModel, Upstream
from pygrid_wire.state import encode_state
from tests.builders import MODEL, a_model

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0.5], np.float64), np.array(7, np.int64)]
STATE = encode_state(ARRAYS)


def test_parameters_keep_their_order_shape_and_type(tmp_path):
    """They are named `param_000`, `param_001`, ..."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(as_safetensors(STATE, a_model(version="3")))
    with safe_open(path, framework="np") as file:
        named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        about = file.metadata()

    assert sorted(named) == ["param_000", "param_001", "param_002"]
    assert about == {"model_id": MODEL, "version": "3"}
    for (_, array), expected in zip(sorted(named.items()), ARRAYS, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("state", [b"", b"not a state", STATE[:-3]])
def test_other_content_than_a_state_is_refused(state):
    """None of it is stored."""
    with pytest.raises(UnusableModel, match="can't be read"):
        as_safetensors(state, a_model())


@pytest.mark.moto
class TestBucket:
    @pytest.fixture
    def bucket(self, aws):
        client = aws.client("s3")
        client.create_bucket(Bucket="models")
        return S3ModelBucket(client, "models")

    def keys(self, bucket):
        return [item["Key"] for item in bucket.client.list_objects_v2(Bucket="models").get("Contents", [])]

    def test_both_forms_are_stored(self, bucket):
        """The node's bytes, and safetensors; storing is idempotent."""
        for _ in range(2):
            bucket.store(a_model(), STATE)
        raw = bucket.client.get_object(Bucket="models", Key=f"models/{MODEL}/model.state.pb")["Body"].read()

        assert raw == STATE
        assert self.keys(bucket) == [f"models/{MODEL}/model.safetensors", f"models/{MODEL}/model.state.pb"]

    def test_presigned_url_needs_no_credential(self, bucket):
        """A browser saves the file with the model's name."""
        bucket.store(a_model(), STATE)
        url = bucket.fresh_url(MODEL)
        query = parse_qs(urlsplit(url).query)
        answer = requests.get(url, timeout=5)

        assert sorted(load(answer.content)) == ["param_000", "param_001", "param_002"]
        assert query["response-content-disposition"] == [f"attachment; filename*=UTF-8''{MODEL}.safetensors"]

    @pytest.mark.parametrize("model_id", ["../other", "a/b", "ü 🙂", "x\ny", "a?b#c"])
    def test_model_id_stays_one_part_of_the_key(self, bucket, model_id):
        """An id is free text."""
        bucket.store(a_model(model_id=model_id), STATE)
        keys = self.keys(bucket)

        assert all(key.startswith("models/") and key.count("/") == 2 for key in keys)
        assert requests.get(bucket.fresh_url(model_id), timeout=5).status_code == 200

    def test_refusal_is_upstream(self, aws):
        """The model stays due for retrieval."""
        with pytest.raises(Upstream, match="S3 refused a call: NoSuchBucket"):
            S3ModelBucket(aws.client("s3"), "nowhere").store(a_model(), STATE)


@pytest.mark.moto
def test_safetensors_are_stored_last(session):
    """A failure in between leaves no link to half a model."""
    client = session.client("s3")
    with Stubber(client) as stubber:
        stubber.add_response("put_object", {})
        stubber.add_client_error("put_object", "SlowDown")
        with pytest.raises(Upstream, match="SlowDown"):
            S3ModelBucket(client, "models").store(a_model(), STATE)
