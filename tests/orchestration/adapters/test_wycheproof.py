"""Signatures against the RS256 vectors of Wycheproof: valid ones pass, invalid ones don't.

A vector that is only "acceptable" may go either way; the set has none for RS256.
"""

import json
from pathlib import Path

import pytest
from jose.utils import base64url_decode

from orchestration.adapters.jwks import usable_keys
from orchestration.adapters.jws import verified_payload
from orchestration.domain.errors import Unauthenticated

VECTORS = Path(__file__).parents[2] / "data" / "wycheproof_rs256.json"
GROUPS = json.loads(VECTORS.read_text())["groups"]

UNFIT_KEYS = {
    353: "its use is enc",
    355: "its key_ops are for encryption",
}
"""Vectors whose key may not verify, by their tcId; they carry the valid token of tcId 33."""


def vectors(wanted):
    """Parameters `token`, `public`: the vectors that `wanted` chooses."""
    return pytest.mark.parametrize(
        ("token", "public"),
        [
            pytest.param(test["jws"], group["public"], id=f"{test['tcId']} {test['comment']}")
            for group in GROUPS
            for test in group["tests"]
            if wanted(test)
        ],
    )


def verified(token, public):
    """Check the token as one of a pool whose key set holds this key only."""
    keys = usable_keys({"keys": [public]}, local_mode=False)

    def key(kid):
        if kid not in keys:
            raise Unauthenticated("The token is signed with a key that the user pool doesn't have.")
        return keys[kid]

    return verified_payload(token, key)


@vectors(lambda test: test["result"] == "valid")
def test_a_valid_signature_holds(token, public):
    """No vector with the result "valid" is refused."""
    header, payload = verified(token, public)

    assert header["kid"] == public["kid"]
    assert payload == base64url_decode(token.split(".")[1].encode())


@vectors(lambda test: test["result"] == "invalid" and "ModifiedPadding" in test["flags"])
def test_a_signature_with_a_modified_padding_does_not_hold(token, public):
    """What is signed must be the one encoding of the hash, byte for byte (RFC 8017, section 8.2.2)."""
    with pytest.raises(Unauthenticated, match="signature doesn't hold"):
        verified(token, public)


@vectors(lambda test: test["result"] == "invalid" and "ModifiedPadding" not in test["flags"])
def test_no_other_invalid_token_passes(token, public):
    """Parts that are missing, changed or too many, and keys that are for something else."""
    with pytest.raises(Unauthenticated):
        verified(token, public)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group['comment']} {group['tests'][0]['tcId']}")
def test_a_key_is_usable_unless_it_is_for_encryption(group):
    """`use` and `key_ops` decide (RFC 7517, section 4); another refusal would hide what is tested."""
    public = group["public"]
    fit = UNFIT_KEYS.keys().isdisjoint(test["tcId"] for test in group["tests"])

    keys = usable_keys({"keys": [public]}, local_mode=False)

    assert list(keys) == ([public["kid"]] if fit else [])
