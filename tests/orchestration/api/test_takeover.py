"""Attacks on a model: through the node that hosts it, and through the table that anybody's library writes."""

import pytest

from orchestration.domain.node import StackPhase
from tests.builders import DATASET, MODEL, STRANGER, a_model, a_submission, a_user, submitted_item
from tests.fakes import FakeStack
from tests.processes import reconcile
from tests.web import API_KEY, basic, bearer

SPELLING = MODEL.upper()
"""The service finds a model by its id in lower case too, so an attacker can upload under 2**n names."""


@pytest.fixture
def says(post, node):
    """Send what a node sends, and return the answer."""
    return lambda route, **body: post(route, body, basic(node.node_id))


def test_progress_of_another_spelling_does_not_complete_the_model(says, world):
    """An attacker uploads under another spelling with `max_diffs` 1 and reports one diff."""
    world.put(a_model())
    answer = says("/model_progress", model_id=SPELLING, percent_complete=100, cycle=1)

    assert answer.status_code == 404
    assert world.models.get(MODEL) == a_model()


def test_other_spelling_may_not_be_uploaded(says, world):
    """Each spelling would be storage that nobody pays for."""
    world.put(a_model())

    assert says("/model_upload", model_id=SPELLING, version="1").status_code == 404
    assert says("/model_upload", model_id=MODEL, version="1").status_code == 200


def test_model_is_known_by_the_name_that_create_was_called_with(says, world):
    """The library may spell the name differently at `/create`; the node hosts the model under that name."""
    world.put(a_model(hosted_as=SPELLING))

    assert says("/model_upload", model_id=SPELLING, version="1").status_code == 200
    assert says("/model_upload", model_id=MODEL, version="1").status_code == 404
    assert says("/model_progress", model_id=MODEL, percent_complete=100).status_code == 404
    assert says("/model_progress", model_id=SPELLING, percent_complete=10).status_code == 200
    assert world.models.get(MODEL).percent_complete == 10


@pytest.mark.parametrize(
    "model",
    [
        a_submission(),
        a_model(is_active=False),
        a_model(is_active=False, percent_complete=100, retrieval_due=True),
    ],
    ids=["not accepted by /create", "withdrawn", "complete"],
)
def test_model_that_does_not_train_may_not_be_uploaded(says, world, model):
    """Its name must not become storage, nor replace what the owner trained."""
    world.put(model)
    answer = says("/model_upload", model_id=MODEL, version="1")

    assert answer.status_code == 409
    assert "error" in answer.json


CREATE = {"dataset_id": DATASET, "model_id": MODEL, "features": ["age", "bmi"], "labels": ["progression"]}
RETYPED = "Net-1-Ada"
MALLORY = bearer(STRANGER.username)


@pytest.fixture
def write(world):
    """Write a whole item of the model table, as anybody can with the library's credentials."""
    return lambda **item: world.dynamodb.put_item(TableName="model_table", Item=submitted_item(**item))


@pytest.fixture
def overwrite(world):
    """Change attributes of an item of the model table, as anybody can with the library's credentials."""

    def change(model_id, **attributes):
        item = world.item("model_table", model_id) | attributes
        world.dynamodb.put_item(TableName="model_table", Item=item)

    return change


@pytest.fixture
def ada(post, world, node, write):
    """Let Ada submit her model and call `/create`, while another buyer has an account, too."""
    world.put(a_user(user_id="mallory@example.org", username=STRANGER.username))
    write()
    assert post("/create", CREATE, bearer()).status_code == 200


@pytest.mark.usefixtures("ada")
class TestLibraryRights:
    """The library's AWS credentials may write any attribute of any item of the model table."""

    def test_name_is_claimed_once(self, post, world, write):
        """A second item whose name differs in case only would be listed with other columns."""
        write(model_id=RETYPED, owner_name=STRANGER.username)
        answer = post("/create", CREATE | {"model_id": RETYPED, "features": ["spy"]}, MALLORY)

        assert answer.status_code == 409
        assert "another name or version" in answer.json["error"]
        assert [model.owner for model in world.models.on_dataset(DATASET)] == ["ada"]

    @pytest.mark.parametrize("spelling", [RETYPED, MODEL])
    def test_own_item_does_not_retrieve_anothers_model(self, world, node, write, spelling, says):
        """Attributes that make the reconciler work aren't read from that table."""
        says("/model_progress", model_id=MODEL, percent_complete=100, cycle=1)
        world.secrets.ensure(node)
        world.stacks.stacks[(node.node_id, 1)] = FakeStack(node.node_id, 1, "arn", StackPhase.USABLE)
        write(
            model_id="spy-1-mallory",
            owner_name=STRANGER.username,
            hosted_as=spelling,
            retrieval_due=DATASET,
            active_status=0,
            percent_complete=100,
            features=["age"],
            labels=["y"],
        )
        reconcile(world)

        assert world.bucket.files.keys() == {MODEL}
        assert "download_link" not in world.item("model_table", "spy-1-mallory")

    def test_attributes_do_not_replace_the_purchase(self, post, world, write, says):
        """A model is accepted by `/create` only, which checks the purchase."""
        name = "free-1-eve"
        write(model_id=name, owner_name="eve", features=["age"], labels=["y"], hosted_at=1, progress_at=1)
        listed = post("/info", {"dataset_id": DATASET}, API_KEY).json["models"]
        statuses = [
            says("/model_upload", model_id=name, version="1").status_code,
            says("/model_progress", model_id=name, percent_complete=10).status_code,
            post("/model_loss", {"model_id": name, "loss": 0.5, "acc": -1}).status_code,
        ]

        assert name not in [row[0] for row in listed]
        assert all(status in (404, 409) for status in statuses)
        assert name not in {model.model_id for model in world.models.on_dataset(DATASET)}

    @pytest.mark.parametrize("route", ["/create", "/delete", "/rotate_link"])
    def test_owner_is_the_one_whom_create_has_accepted(self, post, world, overwrite, route):
        """Whoever is written into the item afterwards can neither withdraw nor download the model."""
        overwrite(MODEL, owner_name=STRANGER.username)
        body = CREATE if route == "/create" else {"model_id": MODEL}

        assert post(route, body, MALLORY).status_code == 403
        assert post("/create", CREATE, bearer()).status_code == 200
        assert world.item("model_table", MODEL)["owner_name"] == "ada"

    def test_no_attribute_decides_anything_after_create(self, post, world, overwrite, says):
        """Reports are counted and cycles close as if nothing had been written."""
        overwrite(
            MODEL,
            active_status=0,
            percent_complete=100,
            devices_trained_this_cycle=10**9,
            closed_cycles=99,
            features=["spy"],
            version="7",
            dataset="elsewhere",
            hosted_as=RETYPED,
            revision=10**30,
            ended_at=1,
            history=["x"],
        )
        loss = post("/model_loss", {"model_id": MODEL, "loss": 0.5, "acc": -1})
        progress = says("/model_progress", model_id=MODEL, percent_complete=10, cycle=1)
        model, item = world.models.get(MODEL), world.item("model_table", MODEL)

        assert (loss.status_code, progress.status_code) == (200, 200)
        assert (model.features, model.version, model.percent_complete) == (("age", "bmi"), "1", 10)
        assert [cycle.devices for cycle in model.history] == [1]
        assert item["features"] == ["age", "bmi"]
        assert (item["active_status"], item["percent_complete"], item["dataset"]) == (1, 10, DATASET)

    def test_item_of_another_spelling_captures_neither_loss_nor_progress(self, post, world, write, says):
        """The service looks an id up as it is sent, then in lower case; only one record has the name."""
        write(model_id=RETYPED, owner_name=STRANGER.username, features=["age"], labels=["y"])
        refused = [
            post("/model_loss", {"model_id": RETYPED, "loss": 0.5, "acc": -1}),
            says("/model_progress", model_id=RETYPED, percent_complete=100, cycle=1),
            says("/model_upload", model_id=RETYPED, version="1"),
        ]
        counted = post("/model_loss", {"model_id": MODEL, "loss": 0.5, "acc": -1})

        assert [answer.status_code for answer in refused] == [404, 404, 409]
        assert counted.status_code == 200
        assert world.models.get(MODEL).totals.devices == 1

    def test_item_that_the_library_sends_again_is_restored(self, post, world, write, says):
        """The library sends the whole item of a name that was used before, and calls `/create`."""
        post("/model_loss", {"model_id": MODEL, "loss": 0.25, "acc": -1})
        says("/model_progress", model_id=MODEL, percent_complete=10, cycle=1)
        post("/model_loss", {"model_id": MODEL, "loss": 0.75, "acc": -1})
        before = world.item("model_table", MODEL)
        write()
        post("/model_loss", {"model_id": MODEL, "loss": 0.75, "acc": -1})
        post("/create", CREATE, bearer())

        assert world.item("model_table", MODEL) == before | {
            "devices_trained_this_cycle": 2,
            "revision": before["revision"] + 1,
        }

    def test_link_of_a_complete_model_is_restored(self, post, world, write, says):
        """`/create` refuses a complete model; the item shows its link again all the same."""
        says("/model_progress", model_id=MODEL, percent_complete=100, cycle=1)
        world.models.retrieved(world.models.get(MODEL), "key", "https://link.test")
        before = world.item("model_table", MODEL)
        write()
        answer = post("/create", CREATE, bearer())

        assert answer.status_code == 409
        assert world.item("model_table", MODEL) == before
        assert before["download_link"] == "https://link.test"
