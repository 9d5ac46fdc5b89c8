from boto3.dynamodb.types import TypeSerializer

from local_platform import seeds
from local_platform.seeds import Person

ADA = Person("ada", "s3cret", "data scientist")
GRACE = Person("grace", "s3cret", "app developer")
DATASET_ATTRIBUTES = {
    "app", "appURL", "attributes", "attributeTypes", "attributeRangeMins", "attributeRangeMaxes",
    "attributeDescriptions", "category", "hasNode", "nodeURL", "logo_image_url", "num_devices",
    "numPurchases", "owner_username", "placeholder", "predictable_attributes", "properlySetUp",
}  # fmt: skip


def test_dataset_has_every_attribute_that_the_marketplace_reads():
    """It reads them without looking whether they are there."""
    assert seeds.dataset(GRACE).keys() == DATASET_ATTRIBUTES | {"dataset_id"}


def test_dataset_describes_each_of_its_columns():
    """The marketplace shows them side by side."""
    row = seeds.dataset(GRACE)
    names = (
        "attributes",
        "attributeTypes",
        "attributeRangeMins",
        "attributeRangeMaxes",
        "attributeDescriptions",
    )

    assert {len(row[name]) for name in names} == {11}
    assert set(row["predictable_attributes"]) <= set(row["attributes"])


def test_data_scientist_has_bought_the_dataset():
    """Else `/create` would refuse."""
    row = seeds.user(ADA, purchased=[seeds.DATASET_ID])

    assert row["datasets_purchased"] == [seeds.DATASET_ID]
    assert (row["user_id"], row["username"]) == ("ada@example.org", "ada")


def test_first_model_is_as_artificienlib_writes_it():
    """Without features and labels: those come with `/create`."""
    row = seeds.model(ADA)

    assert row["model_id"] == "first-look-1.0-ada"
    assert (row["loss_this_cycle"], row["acc_this_cycle"], row["percent_complete"]) == (-1, -1, 0)
    assert not row.keys() & {"features", "labels"}


def test_rows_can_be_stored():
    """DynamoDB takes no binary floats."""
    for row in (seeds.dataset(GRACE), seeds.model(ADA), seeds.user(ADA, purchased=[])):
        assert TypeSerializer().serialize(row)


def test_password_is_not_in_a_row():
    """It is Cognito's."""
    assert "s3cret" not in str([seeds.user(ADA, purchased=[]), seeds.dataset(GRACE), seeds.model(ADA)])
