"""GET /download and POST /rotate_link: download links need no token."""

from urllib.parse import quote

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


def test_valid_link_redirects_to_the_file(client, link):
    """It can be used again; caches must not store the presigned URL, which expires after minutes."""
    answers = [client.get(link) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0].location == f"https://bucket.test/{MODEL}/safetensors?presigned"
    assert answers[0].headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("form", ["safetensors", "state", "pkl"])
def test_holder_of_the_link_chooses_the_form(client, link, form):
    """The link in the marketplace leads to safetensors."""
    answer = client.get(f"{link}&form={form}")

    assert (answer.status_code, answer.location) == (302, f"https://bucket.test/{MODEL}/{form}?presigned")


@pytest.mark.parametrize("form", ["", "h5", "SAFETENSORS", "../state", "\x00"])
def test_other_forms_are_refused(client, link, form):
    """Only to a holder of the link, who reads which forms there are."""
    answer = client.get(f"{link}&form={quote(form)}")
    forged = client.get(f"/download/{MODEL}?key=forged&form={quote(form)}")

    assert answer.status_code == 400
    assert answer.json == {"error": "form must be one of safetensors, state, pkl."}
    assert forged.status_code == 404


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
def test_forged_link_is_not_found(client, link, forge):
    """The response is the same for existing and missing models."""
    answer = client.get(forge(link))

    assert answer.status_code == 404
    assert answer.json == {"error": "This download link is not valid."}


def test_link_of_a_withdrawn_model_is_not_found(client, link, world):
    """Withdrawing a model makes its link invalid."""
    world.models.withdraw(world.models.get(MODEL), 0.0)
    answer = client.get(link)

    assert answer.status_code == 404
    assert answer.json == {"error": "This download link is no longer valid."}


@pytest.mark.parametrize(
    "model_id",
    ["a b", "ü", "a/b", "a//b", "../x", "a?b#c", "100%", "a%2Fb", "x&key=y", "/a", "a\nb", "..", "a/"],
)
def test_link_works_for_any_model_id(client, world, model_id):
    """A data scientist chooses the id freely."""
    world.put(a_model(model_id=model_id, is_active=False, download_key="key"))

    assert client.get(path_of(LINKS.link(model_id, "key"))).status_code == 302


def test_link_depends_on_the_secret():
    """Changing the secret makes all links invalid."""
    other = type(LINKS)(PUBLIC_URL, "t" * 32)

    assert other.link(MODEL, "key") != LINKS.link(MODEL, "key")


class TestRotation:
    def rotate(self, client, username="ada", model_id=MODEL):
        return client.post("/rotate_link", json={"model_id": model_id}, headers=bearer(username))

    def test_owner_gets_a_new_link(self, client, link, world):
        """The old link becomes invalid."""
        answer = self.rotate(client)
        new = path_of(answer.json["download_link"])

        assert answer.status_code == 200
        assert [client.get(old_or_new).status_code for old_or_new in (link, new)] == [404, 302]
        assert world.item("model_table", MODEL)["download_link"] == answer.json["download_link"]

    def test_other_users_are_forbidden(self, client, link):
        """The link stays valid."""
        assert self.rotate(client, "mallory").status_code == 403
        assert client.get(link).status_code == 302

    def test_model_without_link_is_a_conflict(self, client, world):
        """It is still training, or was withdrawn."""
        world.put(a_model())

        assert self.rotate(client).status_code == 409

    def test_rotation_requires_a_token(self, client):
        """A request without a token is answered 401."""
        assert client.post("/rotate_link", json={"model_id": MODEL}).status_code == 401
