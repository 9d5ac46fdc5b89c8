"""A network can cause a few refusals a minute; others are not affected."""

import pytest

from pygrid_node.entities import UploadRequest
from pygrid_node.errors import TooManyRefusedUploads, UploadNotAllowed
from pygrid_node.refusals import Refusals, network_of, plain_address
from tests.fakes.clock import FakeClock

HERE, THERE = "192.0.2.7", "198.51.100.7"


@pytest.fixture
def clock():
    """Time that only a test moves on."""
    return FakeClock(0.0)


@pytest.fixture
def refusals(clock):
    """No refusal yet."""
    return Refusals(clock)


def upload(name="junk", address=HERE, token=None, version="1"):
    return UploadRequest(name, version, address, token)


def answer(refusals, request):
    """Return the class of the refusal without a question; None if the orchestrator would be asked."""
    try:
        refusals.require_unknown(request)
    except (UploadNotAllowed, TooManyRefusedUploads) as refusal:
        return type(refusal)
    return None


def test_same_upload_is_asked_about_twice_in_half_a_minute(refusals, clock):
    """The first question may have come before `/create`."""
    refusals.add(upload())
    once = answer(refusals, upload())
    refusals.add(upload())
    twice = answer(refusals, upload(address="192.0.2.200"))
    clock.tick(29.9)
    still = answer(refusals, upload())
    clock.tick(0.1)

    assert (once, twice, still) == (None, UploadNotAllowed, UploadNotAllowed)
    assert answer(refusals, upload()) is None


@pytest.mark.parametrize(
    "other",
    [upload(address=THERE), upload(token="t"), upload(version="2"), upload("owned")],
    ids=["network", "token", "version", "name"],
)
def test_refusal_is_remembered_for_this_upload_only(refusals, other):
    """A stranger who asks first does not make the owner wait."""
    for _ in range(2):
        refusals.add(upload())

    assert answer(refusals, upload()) is UploadNotAllowed
    assert answer(refusals, other) is None


def test_network_causes_five_refusals_a_minute(refusals, clock):
    """Its other uploads are refused without a question; those of another network are not."""
    for number in range(5):
        assert answer(refusals, upload(f"junk-{number}")) is None
        refusals.add(upload(f"junk-{number}", f"192.0.2.{number}"))
        clock.tick(10)
    during = [answer(refusals, upload("more", address)) for address in (HERE, THERE)]
    clock.tick(9.9)
    late = answer(refusals, upload("more"))
    clock.tick(0.1)

    assert during == [TooManyRefusedUploads, None]
    assert late is TooManyRefusedUploads
    assert answer(refusals, upload("more")) is None


def test_number_of_remembered_networks_is_limited(clock):
    """The one without a refusal for the longest time is forgotten."""
    refusals = Refusals(clock, networks=2)
    first, second, third = (upload(address=f"192.0.{number}.1") for number in range(3))
    for request in (first, second, first, second, first, third, third):
        refusals.add(request)

    assert [answer(refusals, request) for request in (first, second, third)] == [
        UploadNotAllowed,
        None,
        UploadNotAllowed,
    ]


@pytest.mark.parametrize(
    ("address", "plain", "network"),
    [
        ("203.0.113.9", "203.0.113.9", "203.0.113.0/24"),
        ("::ffff:203.0.113.9", "203.0.113.9", "203.0.113.0/24"),
        ("2001:db8:0:1ff::1", "2001:db8:0:1ff::1", "2001:db8:0:100::/56"),
        ("2001:0DB8:0:101::1", "2001:db8:0:101::1", "2001:db8:0:100::/56"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80::/56"),
        ("127.0.0.9", "127.0.0.9", "127.0.0.9"),
        ("::1", "::1", "::1"),
        ("", "", ""),
        ("a socket", "a socket", "a socket"),
    ],
)
def test_network_of_an_address(address, plain, network):
    """A provider gives a /56 to a household; addresses of this machine are clients of their own."""
    assert (plain_address(address), network_of(address)) == (plain, network)
