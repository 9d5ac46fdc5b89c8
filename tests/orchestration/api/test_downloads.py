"""GET /download: a link that opens in a browser which holds no token."""

import pytest

from tests.builders import MODEL, a_model
from tests.processes import LINKS, PUBLIC_URL
from tests.web import bearer


def path_of(link: str) -> str:
    assert link.startswith(PUBLIC_URL)
    return link.removeprefix(PUBLIC_URL)


@pytest.fixture
def link(world):
    world.put(a_model(is_active=False, percent_complete=100, download_key="key"))
    world.put(a_model(model_id="other", is_active=False, percent_complete=100, download_key="key"))
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
    world.put(a_model(model_id=model_id, is_active=False, download_key="key"))

    assert client.get(path_of(LINKS.link(model_id, "key"))).status_code == 302


def test_another_secret_signs_another_link():
    """Rotating the secret takes all links back."""
    other = type(LINKS)(PUBLIC_URL, "t" * 32)

    assert other.link(MODEL, "key") != LINKS.link(MODEL, "key")


class TestRotation:
    def rotate(self, client, username="ada", model_id=MODEL):
        return client.post("/rotate_link", json={"model_id": model_id}, headers=bearer(username))

    def test_the_owner_gets_a_new_link_and_the_old_one_is_void(self, client, link, world):
        """For a link that has got into wrong hands."""
        answer = self.rotate(client)
        new = path_of(answer.json["download_link"])

        assert answer.status_code == 200
        assert [client.get(old_or_new).status_code for old_or_new in (link, new)] == [404, 302]
        assert world.item("model_table", MODEL)["download_link"] == answer.json["download_link"]

    def test_nobody_else_can(self, client, link):
        """The link stays."""
        assert self.rotate(client, "mallory").status_code == 403
        assert client.get(link).status_code == 302

    def test_a_model_without_a_link_has_none_to_rotate(self, client, world):
        """It is not trained yet, or withdrawn."""
        world.put(a_model())

        assert self.rotate(client).status_code == 409

    def test_somebody_must_say_who_they_are(self, client):
        """As everywhere."""
        assert client.post("/rotate_link", json={"model_id": MODEL}).status_code == 401
