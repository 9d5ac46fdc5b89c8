"""GET /download: a link that opens in a browser which holds no token."""

import pytest

from tests.builders import MODEL, a_model
from tests.web import LINKS, PUBLIC_URL


def path_of(link: str) -> str:
    assert link.startswith(PUBLIC_URL)
    return link.removeprefix(PUBLIC_URL)


@pytest.fixture
def link(world):
    world.models.add(a_model(is_active=False, percent_complete=100, download_key="key"))
    world.models.add(a_model(model_id="other", is_active=False, percent_complete=100, download_key="key"))
    return path_of(LINKS.link(MODEL, "key"))


def test_a_valid_link_leads_to_the_file(client, link):
    """Again and again; no cache may keep the URL, which is good for minutes."""
    answers = [client.get(link) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0].location == f"https://bucket.test/{MODEL}?presigned"
    assert answers[0].headers["Cache-Control"] == "no-store"


FORGED = {
    "another model": lambda link: link.replace(MODEL, "other"),
    "no signature": lambda link: link.rpartition(".")[0],
    "no key": lambda link: link.partition("?")[0],
    "another signature": lambda link: link[:-1] + ("A" if link[-1] != "A" else "B"),
    "another key": lambda link: link.replace("key=key", "key=kex"),
    "an empty key": lambda link: link.partition("=")[0] + "=",
    "not ASCII": lambda link: link + "%FF%ED%A0%80",
    "very long": lambda link: link + "x" * 10_000,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_link_says_nothing(client, link, forge):
    """404, the same for what is there and what isn't."""
    answer = client.get(forge(link))

    assert answer.status_code == 404
    assert answer.json == {"error": "This download link is not valid."}


def test_a_withdrawn_model_is_gone(client, link, world):
    """The owner takes it back."""
    world.models.withdraw(world.models.get(MODEL), 0.0)
    answer = client.get(link)

    assert answer.status_code == 404
    assert answer.json == {"error": "This download link is no longer valid."}


@pytest.mark.parametrize(
    "model_id",
    ["a b", "ü", "a/b", "a//b", "../x", "a?b#c", "100%", "a%2Fb", "x&key=y", "/a", "a\nb", "..", "a/"],
)
def test_a_link_works_for_any_name_of_a_model(client, world, model_id):
    """A data scientist chose it."""
    world.models.add(a_model(model_id=model_id, is_active=False, download_key="key"))

    assert client.get(path_of(LINKS.link(model_id, "key"))).status_code == 302


def test_another_secret_signs_another_link():
    """Rotating the secret takes all links back."""
    other = type(LINKS)(PUBLIC_URL, "t" * 32)

    assert other.link(MODEL, "key") != LINKS.link(MODEL, "key")
