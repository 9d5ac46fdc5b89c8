"""The bucket of trained models: its content, and its presigned URLs."""

import json
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
import requests
from botocore.stub import Stubber
from safetensors.numpy import load

from orchestration.adapters.model_bucket import S3ModelBucket
from orchestration.domain.errors import Upstream
from orchestration.domain.ports import ModelForm
from pygrid_wire.state import encode_state
from tests.builders import MODEL, a_model

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0.5], np.float64), np.array(7, np.int64)]
STATE = encode_state(ARRAYS)
FILE = ModelForm.SAFETENSORS


@pytest.mark.moto
class TestBucket:
    @pytest.fixture
    def bucket(self, aws):
        client = aws.client("s3")
        client.create_bucket(Bucket="models")
        return S3ModelBucket(client, "models")

    def keys(self, bucket):
        return [item["Key"] for item in bucket.client.list_objects_v2(Bucket="models").get("Contents", [])]

    def test_each_form_is_stored(self, bucket):
        """The node's bytes, the same as torch saves them, and safetensors; storing is idempotent."""
        for _ in range(2):
            bucket.store(a_model(), STATE)
        raw = bucket.client.get_object(Bucket="models", Key=f"models/{MODEL}/model.state.pb")["Body"].read()

        assert raw == STATE
        assert self.keys(bucket) == [
            f"models/{MODEL}/model.{ending}" for ending in ("pkl", "safetensors", "state.pb")
        ]

    def test_presigned_url_needs_no_credential(self, bucket):
        """A browser saves the file with the model's name."""
        bucket.store(a_model(), STATE)
        url = bucket.fresh_url(MODEL, FILE)
        query = parse_qs(urlsplit(url).query)
        answer = requests.get(url, timeout=5)

        assert sorted(load(answer.content)) == ["param_000", "param_001", "param_002"]
        assert query["response-content-disposition"] == [f"attachment; filename*=UTF-8''{MODEL}.safetensors"]

    def test_each_form_has_its_url(self, bucket):
        """The state is what the node sent."""
        bucket.store(a_model(), STATE)
        urls = [bucket.fresh_url(MODEL, form) for form in ModelForm]
        names = [parse_qs(urlsplit(url).query)["response-content-disposition"][0] for url in urls]
        sizes = [len(requests.get(url, timeout=5).content) for url in urls]

        assert [name.rpartition("''")[2] for name in names] == [
            f"{MODEL}.{ending}" for ending in ("safetensors", "state.pb", "pkl")
        ]
        assert sizes[1] == len(STATE) < sizes[2]

    @pytest.mark.parametrize("model_id", ["../other", "a/b", "ü 🙂", "x\ny", "a?b#c"])
    def test_model_id_stays_one_part_of_the_key(self, bucket, model_id):
        """An id is free text."""
        bucket.store(a_model(model_id=model_id), STATE)
        keys = self.keys(bucket)

        assert all(key.startswith("models/") and key.count("/") == 2 for key in keys)
        assert requests.get(bucket.fresh_url(model_id, FILE), timeout=5).status_code == 200

    @pytest.mark.parametrize("model_id", ["🙂" * 312, "🙂" * 512, "ü" * 400, "x" * 512], ids=len)
    def test_long_model_id_is_stored_and_found(self, bucket, model_id):
        """S3 takes keys of 1,024 bytes; the presigned URL goes into the header of a redirect."""
        bucket.store(a_model(model_id=model_id), STATE)
        url = bucket.fresh_url(model_id, FILE)
        answer = requests.get(url, timeout=5)
        header = answer.content[8 : 8 + int.from_bytes(answer.content[:8], "little")]

        assert sorted(load(answer.content)) == ["param_000", "param_001", "param_002"]
        assert json.loads(header)["__metadata__"]["model_id"] == model_id
        assert all(len(key) <= 1024 for key in self.keys(bucket))
        assert len(url) < 3000

    def test_long_model_ids_do_not_share_a_file(self, bucket):
        """Neither with each other nor with a model whose id looks like a key."""
        ids = ["🙂" * 511 + "a", "🙂" * 511 + "b"]
        for model_id in ids:
            bucket.store(a_model(model_id=model_id), STATE)
        folders = [key.split("/")[1] for key in self.keys(bucket)]
        for folder in sorted(set(folders)):
            bucket.store(a_model(model_id=folder), STATE)

        assert len(set(folders)) == 2
        assert len(self.keys(bucket)) == 12

    @pytest.mark.parametrize("length", [1, 300, 998, 999])
    def test_key_that_was_always_accepted_is_kept(self, bucket, length):
        """The files of earlier versions are found: 999 is the longest id whose key S3 accepted."""
        model_id = "x" * length
        bucket.store(a_model(model_id=model_id), STATE)

        assert f"models/{model_id}/model.safetensors" in self.keys(bucket)

    def test_long_name_of_a_download_is_cut_off(self, bucket):
        """File systems take 255 bytes; a character is not cut in half."""
        [disposition] = parse_qs(urlsplit(bucket.fresh_url("x" + "🙂" * 300, FILE)).query)[
            "response-content-disposition"
        ]
        name = unquote(disposition.removeprefix("attachment; filename*=UTF-8''"))

        assert name == "x" + "🙂" * 59 + ".safetensors"

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
