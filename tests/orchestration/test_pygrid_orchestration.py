"""The composition root: everything is wired as in production, on the AWS of moto."""

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestration.adapters.cognito import CognitoTokens
from orchestration.adapters.dynamo import DynamoNodes
from orchestration.adapters.jws import PUBLISHED_KEYS
from orchestration.control.reconciler import Intervals
from orchestration.domain.decision import Budget, Rules
from orchestration.domain.node import Quota
from orchestration.domain.ports import ModelForm
from orchestration.pygrid_orchestration import Parts, create_app, create_reconciler
from tests.builders import (
    DATASET,
    LEGACY_KEY,
    MODEL,
    a_developer,
    dataset_item,
    model_item,
    submitted_item,
    user_item,
)
from tests.web import settings

pytestmark = [pytest.mark.moto, pytest.mark.usefixtures("own_logs")]
SETTINGS = settings()
TABLES = ("model", "training", "dataset", "user", "node", "key")


@pytest.fixture
def table(moto_table_of):
    return {name: moto_table_of(f"{name}_table") for name in TABLES}


@pytest.fixture
def parts(aws):
    return Parts(SETTINGS)


def test_each_part_is_created_once(parts):
    """Parts share their connection pools."""
    assert parts.services is parts.services
    assert parts.services.nodes.models is parts.reconciler.models
    assert parts.services.progress is parts.reconciler.resync.progress


def test_settings_reach_the_parts(parts):
    """Settings in days are converted to seconds."""
    tokens = parts.tokens

    assert isinstance(tokens, CognitoTokens)
    assert tokens.issuer == "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Pool"
    assert tokens.client_ids == {"app-client", "another-client"}
    assert parts.accounts.overlap == 30 * 86_400
    assert parts.lifecycle.rules == Rules(1200, Budget(attempts=3, cool_down=600))
    assert parts.services.nodes.budget == parts.lifecycle.rules.budget
    assert parts.services.nodes.quota == parts.lifecycle.launcher.quota == Quota(per_buyer=10, in_all=500)
    idle_timeout = parts.reconciler.idle_timeout
    assert (idle_timeout.timeout, idle_timeout.stale_after) == (900, 7 * 86_400)
    assert parts.reconciler.intervals == Intervals(passes=10, steady=60, attention=1)


@pytest.mark.parametrize(("local_mode", "untrusted"), [(False, PUBLISHED_KEYS), (True, ())])
def test_published_keys_are_trusted_in_local_mode_only(local_mode, untrusted):
    """Anyone can sign a token with a published key."""
    assert Parts(settings(local_mode=local_mode)).tokens.keys.untrusted == untrusted


def test_parts_of_a_process_share_their_records(parts):
    """All parts that write records of nodes write to the same table."""
    reconciler = parts.reconciler

    assert reconciler.superseded.records is parts.lifecycle.records is parts.lifecycle.launcher.records
    assert reconciler.nodes is parts.lifecycle.records.nodes is parts.lifecycle.publication.nodes
    assert reconciler.stacks is reconciler.superseded.stacks is parts.lifecycle.stacks


def test_download_url_has_a_version_4_signature(parts):
    """Buckets created since 2020 accept no other version. The URL expires after five minutes."""
    query = parse_qs(urlsplit(parts.bucket.fresh_url(MODEL, ModelForm.SAFETENSORS)).query)

    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["300"]


def test_device_is_served_from_the_tables(table):
    """The first request is the first contact; the second finds no node."""
    table["dataset"].put(dataset_item(properlySetUp=False))
    table["user"].put(user_item(a_developer()))
    client = create_app(SETTINGS).test_client()
    send = {"json": {"dataset_id": DATASET}, "headers": {"api_key": LEGACY_KEY}}
    answers = [client.post("/info", **send).json for _ in range(2)]

    assert answers == [{"success": f"{DATASET} is properly configured"}, {"wait": "no node available yet"}]


def test_loss_is_counted_in_the_table(table):
    """A report is accepted after a device has shown a valid key."""
    table["model"].put(submitted_item())
    table["training"].put(model_item())
    table["dataset"].put(dataset_item())
    DynamoNodes(table["node"]).device_seen(DATASET, time.time())
    client = create_app(SETTINGS).test_client()
    answer = client.post("/model_loss", json={"model_id": MODEL, "loss": 0.1, "acc": -1})

    assert answer.status_code == 200
    assert float(table["model"].get(model_id=MODEL)["loss_this_cycle"]) == 0.1


@pytest.mark.usefixtures("table")
def test_reconciler_passes_over_empty_tables(logs):
    """A pass over empty tables logs nothing, and its interval is random so that replicas differ."""
    passes, looks = [], []

    def wait(seconds):
        waits = looks if seconds == 1 else passes
        waits.append(seconds)
        return len(waits) == 3

    create_reconciler(SETTINGS).run(wait)

    assert logs == []
    assert looks == [1, 1, 1]
    assert len(passes) == 3
    assert all(7.5 <= seconds <= 12.5 for seconds in passes)


def test_missing_tables_are_a_502(aws):
    """The error is returned as JSON."""
    answer = create_app(SETTINGS).test_client().post("/model_loss", json={"model_id": "m", "loss": 1})

    assert answer.status_code == 502
    assert answer.json == {"error": "DynamoDB refused a call: ResourceNotFoundException."}
