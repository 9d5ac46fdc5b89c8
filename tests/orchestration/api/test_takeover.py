"""Attacks on a model: through the node that hosts it, and through the table that anybody's library writes."""

from dataclasses import replace

import pytest

from orchestration.adapters.upload_tokens import SignedUploadTokens
from orchestration.domain.node import StackPhase, node_id_of
from orchestration.domain.uploads import UploadBinding
from tests.builders import DATASET, MODEL, NOON, STRANGER, a_model, a_submission, a_user, submitted_item
from tests.fakes import FakeStack
from tests.processes import LINKS, UPLOAD_TOKENS, an_upload_service, reconcile
from tests.web import API_KEY, basic, bearer, services_on

SPELLING = MODEL.upper()
"""The service finds a model by its id in lower case too, so an attacker can upload under 2**n names."""


HERE = "127.0.0.1"
"""From where Flask's test client calls."""


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

    assert says("/model_upload", model_id=SPELLING, version="1", address=HERE).status_code == 404
    assert says("/model_upload", model_id=MODEL, version="1", address=HERE).status_code == 200


def test_model_is_known_by_the_name_that_create_was_called_with(says, world):
    """The library may spell the name differently at `/create`; the node hosts the model under that name."""
    world.put(a_model(hosted_as=SPELLING))

    assert says("/model_upload", model_id=SPELLING, version="1", address=HERE).status_code == 200
    assert says("/model_upload", model_id=MODEL, version="1", address=HERE).status_code == 404
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


LISTED = [MODEL, "1", ["age", "bmi"], ["progression"]]
ADA, EVE = "203.0.113.7", "198.51.100.9"
"""Addresses of the owner and of an attacker, who knows the key of the app."""


class TestFirstUpload:
    """With the app's key, anybody can ask what to train, and anybody can upload to a node."""

    @pytest.fixture(autouse=True)
    def _submitted(self, node, write):
        self.node = node
        write()

    @pytest.fixture
    def create(self, client):
        """Call `/create` as Ada, from an address."""

        def send(address=ADA, **changes):
            answer = client.post(
                "/create", json=CREATE | changes, headers=bearer(), environ_base={"REMOTE_ADDR": address}
            )
            assert answer.status_code == 200
            return answer.json

        return send

    @pytest.fixture
    def upload(self, post):
        """Ask as the node whether an upload from an address may be stored, or tell how it ended."""

        def send(address=ADA, **changes):
            body = {"model_id": MODEL, "version": "1", "address": address}
            return post("/model_upload", body | changes, basic(self.node.node_id))

        return send

    @pytest.fixture
    def listed(self, post):
        return lambda: post("/info", {"dataset_id": DATASET}, API_KEY).json["models"]

    @pytest.fixture
    def told(self, world):
        """Return what the owner's audit log says about uploads."""
        return lambda: [
            entry for _, entry in world.audit.of(f"model:{MODEL}") if entry.action == "model.upload"
        ]

    def test_name_is_listed_after_the_upload_only(self, create, upload, listed):
        """Until then nobody but the owner knows the name; afterwards devices know it at once."""
        create()
        before = listed()
        allowed = upload()
        between = listed()
        stored = upload(result="stored")

        assert (before, between) == ([], [])
        assert (allowed.status_code, stored.status_code) == (200, 200)
        assert listed() == [LISTED]

    def test_node_is_not_woken_for_a_model_before_its_upload(self, create, upload, world, post):
        """Devices could not train it."""
        create()
        woken = []
        for result in (None, "stored"):
            upload(result=result)
            world.nodes.let_go(world.nodes.get(self.node.node_id))
            post("/info", {"dataset_id": DATASET}, API_KEY)
            woken.append(world.nodes.get(self.node.node_id).should_run)

        assert woken == [False, True]

    def test_upload_from_elsewhere_is_refused_and_the_owner_is_told(self, create, upload, told):
        """The library hides what the node answers, so `/create` and the audit log say it."""
        create()
        refused = upload(EVE)
        answer = create()
        (entry,) = told()

        assert refused.status_code == 403
        assert EVE in refused.json["error"]
        assert (answer["status"], answer["nodeURL"]) == ("ready", "node.test")
        assert answer["reason"] == entry.result == refused.json["error"]
        assert entry.actor == self.node.node_id

    def test_reason_is_gone_after_the_upload(self, create, upload):
        """It was about an upload before."""
        create()
        upload(EVE)
        upload()
        upload(result="stored")

        assert "reason" not in create()

    @pytest.mark.parametrize(
        ("created_from", "uploaded_from", "status"),
        [
            ("203.0.113.7", "203.0.113.250", 200),
            ("203.0.113.7", "203.0.114.7", 403),
            ("203.0.113.7", "::ffff:203.0.113.9", 200),
            ("::ffff:203.0.113.7", "203.0.113.9", 200),
            ("2001:db8:1:200::7", "2001:db8:1:2ff:ffff::9", 200),
            ("2001:db8:1:200::7", "2001:db8:1:300::7", 403),
            ("2001:db8::7", "203.0.113.7", 403),
            ("::1", "0.0.0.1", 403),
            ("fe80::1%eth0", "fe80::2", 200),
            ("not an address", "203.0.113.7", 403),
            ("", "203.0.113.7", 403),
        ],
    )
    def test_upload_is_bound_to_the_network_of_create(
        self, create, upload, created_from, uploaded_from, status
    ):
        """/24 of IPv4, /56 of IPv6: a caller's addresses change within them."""
        create(created_from)

        assert upload(uploaded_from).status_code == status

    def test_caller_with_several_exits_may_use_each(self, create, upload):
        """Two proxies take turns."""
        for address in (ADA, EVE, ADA):
            create(address)

        assert [upload(address).status_code for address in (ADA, EVE)] == [200, 200]

    def test_newest_networks_are_kept(self, create, upload, world):
        """One owner can't make the record grow."""
        for number in range(20):
            create(f"10.0.{number}.1")
            world.clock.tick(1)
        statuses = [upload(f"10.0.{number}.1").status_code for number in range(20)]

        assert statuses == [403] * 4 + [200] * 16

    def test_network_is_forgotten_after_an_hour(self, create, upload, world):
        """Unless `/create` is called again."""
        create()
        world.clock.tick(3600)
        within = upload()
        world.clock.tick(1)
        later = upload()
        create()

        assert (within.status_code, later.status_code, upload().status_code) == (200, 403, 200)

    def test_polling_writes_a_network_every_ten_minutes(self, create, world):
        """The library polls every 30 seconds."""
        revisions = []
        for _ in range(3):
            create()
            revisions.append(world.item("training_table", MODEL)["networks"]["203.0.113.0/24"])
            world.clock.tick(599)

        assert revisions == [NOON, NOON, NOON + 1198]

    def test_upload_without_an_address_is_refused(self, create, upload, told):
        """The owner reads that the node is too old for this binding."""
        create()
        refused = upload(None)

        assert refused.status_code == 403
        assert "did not say where it came from" in refused.json["error"] == told()[0].result

    @pytest.mark.parametrize(("result", "most"), [(None, 2), ("stored", 2), ("exists", 4)])
    def test_junk_is_told_once_a_minute(self, create, upload, told, world, result, most):
        """Anybody may upload, as often as they like."""
        create()
        for _ in range(90):
            upload(EVE)
            upload(EVE, result=result)
            world.clock.tick(1)

        assert len(told()) == most

    def test_owner_is_told_of_a_second_upload(self, create, upload, told, listed):
        """If the first one was not the owner's, the model is somebody else's."""
        create()
        answer = upload(result="exists")

        assert answer.status_code == 200
        assert create()["reason"] == told()[0].result
        assert "hosts this model already" in told()[0].result
        assert listed() == [LISTED]

    def test_junk_does_not_hide_a_second_upload(self, create, upload, told):
        """Junk from elsewhere takes the one message of a minute."""
        create()
        upload(EVE)
        upload(result="exists")
        upload(result="exists")

        assert "hosts this model already" in create()["reason"]
        assert [entry.result for entry in told()].count(create()["reason"]) == 1

    def test_result_may_be_repeated(self, create, upload, world):
        """The time of the first one stays."""
        create()
        upload(result="stored")
        world.clock.tick(10)
        upload(result="stored")

        assert world.models.get(MODEL).hosted_at == NOON

    def test_token_is_enough_from_anywhere(self, create, upload):
        """A program that passes it on needs no fixed network."""
        token = create()["upload_token"]

        assert upload(EVE, token=token).status_code == 200
        assert upload(None, token=token).status_code == 200

    def test_token_is_bound_to_node_name_and_version(self, create, upload, write):
        """That of an own model opens no other."""
        write(model_id="other")
        other = create(model_id="other")["upload_token"]
        token = create()["upload_token"]
        forged = ["", "x", other, token[:-1], token.swapcase(), LINKS.link(MODEL, "key"), "\u00fc" * 1000]

        assert {upload(EVE, token=each).status_code for each in forged} == {403}
        assert UPLOAD_TOKENS.is_valid(token, self.node.node_id, MODEL, "1")
        assert not UPLOAD_TOKENS.is_valid(token, node_id_of("steps"), MODEL, "1")
        assert not UPLOAD_TOKENS.is_valid(token, self.node.node_id, MODEL, "2")

    def test_token_expires(self):
        """Its lifetime is an hour."""
        expired = SignedUploadTokens("s" * 32, lifetime=-1)

        assert not expired.is_valid(expired.token("n", MODEL, "1"), "n", MODEL, "1")
        assert UPLOAD_TOKENS.lifetime == 3600

    @pytest.mark.parametrize(
        ("binding", "statuses"),
        [
            (UploadBinding.ADDRESS, [200, 403, 200, 403]),
            (UploadBinding.TOKEN, [403, 403, 200, 403]),
            (UploadBinding.OFF, [200, 200, 200, 200]),
        ],
    )
    def test_binding_is_a_setting(self, create, upload, world, shared_app, binding, statuses):
        """By network or token, by token only, or not at all."""
        services = services_on(world)
        replace(services, uploads=an_upload_service(world, binding)).bind(shared_app)
        token = create()["upload_token"]
        sent = [{}, {"address": EVE}, {"address": EVE, "token": token}, {"address": None}]

        assert [upload(**each).status_code for each in sent] == statuses
