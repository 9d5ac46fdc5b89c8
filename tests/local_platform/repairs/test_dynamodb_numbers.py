"""Numbers that DynamoDB adds and moto does not."""

import pytest
from moto.dynamodb.models.dynamo_type import DynamoType

from local_platform.repairs.dynamodb_numbers import added


@pytest.mark.parametrize(
    ("number", "other", "total"),
    [
        ("0", "1E-45", "1E-45"),
        ("0.1", "0.2", "0.3"),
        ("3.4E+38", "1", "340000000000000000000000000000000000001"),
    ],
)
def test_any_two_numbers_are_added(number, other, total):
    """Sums have up to 38 digits; numbers may have a point or an exponent."""
    sum_ = added(DynamoType({"N": number}), DynamoType({"N": other}))

    assert float(sum_.value) == float(total)


def test_moto_still_needs_the_repair():
    """When this test fails, the repair can be removed."""
    plain = DynamoType.__add__
    if plain is added:
        pytest.skip("moto is repaired in this process")

    with pytest.raises(ValueError, match="invalid literal"):
        plain(DynamoType({"N": "0"}), DynamoType({"N": "1E-45"}))
