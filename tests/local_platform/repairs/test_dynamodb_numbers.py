"""Numbers that DynamoDB adds, and moto alone does not."""

import pytest
from moto.dynamodb.models.dynamo_type import DynamoType

from local_platform.repairs import dynamodb_numbers as numbers


@pytest.mark.parametrize(
    ("number", "other", "total"),
    [
        ("0", "1E-45", "1E-45"),
        ("0.1", "0.2", "0.3"),
        ("3.4E+38", "1", "340000000000000000000000000000000000001"),
    ],
)
def test_any_two_numbers_add_up(number, other, total):
    """To 38 digits, whether they have a point or an exponent."""
    added = numbers.added(DynamoType({"N": number}), DynamoType({"N": other}))

    assert float(added.value) == float(total)


def test_moto_alone_can_not():
    """The day this fails, the repair can go."""
    plain = DynamoType.__add__
    if plain is numbers.added:
        pytest.skip("moto is repaired in this process")

    with pytest.raises(ValueError, match="invalid literal"):
        plain(DynamoType({"N": "0"}), DynamoType({"N": "1E-45"}))
