import pytest
from boto3.dynamodb.types import TypeSerializer

from local_platform import LocalPlatformError, seeds
from local_platform.clients import access_token
from local_platform.seeds import User

ADA = User("ada", "Passw0rd-of-ada", "data scientist")
GRACE = User("grace", "Passw0rd-of-grace", "app developer")
DATASET_ATTRIBUTES = {
    "app", "appURL", "attributes", "attributeTypes", "attributeRangeMins", "attributeRangeMaxes",
    "attributeDescriptions", "category", "hasNode", "nodeURL", "logo_image_url", "num_devices",
    "numPurchases", "owner_username", "placeholder", "predictable_attributes", "properlySetUp",
}  # fmt: skip


def test_dataset_has_every_attribute_that_the_marketplace_reads():
    """The marketplace fails on a missing one."""
    assert seeds.dataset_item(GRACE).keys() == DATASET_ATTRIBUTES | {"dataset_id"}


def test_dataset_describes_each_of_its_columns():
    """The marketplace shows these lists side by side."""
    item = seeds.dataset_item(GRACE)
    names = (
        "attributes",
        "attributeTypes",
        "attributeRangeMins",
        "attributeRangeMaxes",
        "attributeDescriptions",
    )

    assert {len(item[name]) for name in names} == {11}
    assert set(item["predictable_attributes"]) <= set(item["attributes"])


def test_data_scientist_has_purchased_the_dataset():
    """`/create` refuses a model on a dataset that its owner hasn't purchased."""
    item = seeds.user_item(ADA, purchased=[seeds.DATASET_ID])

    assert item["datasets_purchased"] == [seeds.DATASET_ID]
    assert (item["user_id"], item["username"]) == ("ada@example.org", "ada")


def test_model_is_as_artificienlib_writes_it():
    """It has no features and labels, which `/create` adds."""
    item = seeds.model_item("ada")

    assert item["model_id"] == "first-look-1.0-ada"
    assert (item["loss_this_cycle"], item["acc_this_cycle"], item["percent_complete"]) == (-1, -1, 0)
    assert not item.keys() & {"features", "labels"}


def test_items_can_be_stored():
    """DynamoDB accepts no binary floats."""
    for item in (seeds.dataset_item(GRACE), seeds.model_item("ada"), seeds.user_item(ADA, purchased=[])):
        assert TypeSerializer().serialize(item)


def test_items_contain_no_password():
    """Only Cognito stores passwords."""
    items = [seeds.user_item(ADA, purchased=[]), seeds.dataset_item(GRACE), seeds.model_item("ada")]

    assert "Passw0rd" not in str(items)


@pytest.fixture(scope="module")
def pool(aws):
    return seeds.create_pool(aws, [ADA])


@pytest.mark.moto
def test_user_can_log_in(aws, pool):
    """The token has three parts, as a JWT has."""
    assert access_token(aws, pool.client_id, "ada", ADA.password).count(".") == 2


@pytest.mark.moto
@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("eve", ADA.password)])
def test_wrong_login_is_refused(aws, pool, name, password):
    with pytest.raises(LocalPlatformError, match=f"{name} can't log in"):
        access_token(aws, pool.client_id, name, password)
