"""Workers' messages: tokens, assignments with their leases, and reports."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwt

from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.downloads import Downloads
from pygrid_node.errors import AuthenticationFailed, CycleNotFound
from pygrid_node.storage.cycles import CycleStore, Outbox
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ModelStore
from pygrid_node.training import Training, check_token

DIFF = base64.b64encode((Path(__file__).parents[1] / "data/pygrid/linear/diff-1.bin").read_bytes()).decode()
SUCCESS = {"status": "success"}
LATE = SUCCESS | {
    "counted": False,
    "detail": "The cycle is over; this report came too late to be counted.",
}


class Scene:
    """The messages of a node, on a clock that is set by hand; a lease lasts 100 seconds."""

    def __init__(self, url, upload, opening_delay=0.0, spare_workers=0):
        self.now = 0.0
        self.due = []
        self.opened = []
        self.database = Database(url)
        self.cycles, models = CycleStore(self.database, opening_delay), ModelStore(self.database)
        self.downloads = Downloads(models, self.cycles)
        self.outbox = Outbox(self.database)
        self.closer = CycleCloser(models, self.cycles, clock=lambda: self.now)
        self.training = Training(
            models,
            self.cycles,
            on_due=self.due.append,
            on_opened=lambda: self.opened.append(self.now),
            lease_time=100,
            spare_workers=spare_workers,
            clock=lambda: self.now,
        )
        assert self.training.host(upload["data"]) == SUCCESS

    def authenticated(self):
        return self.training.authenticate({"model_name": "fixture-linear"})["worker_id"]

    def request(self, worker_id):
        speeds = {"ping": 1, "download": 1, "upload": 1}
        message = {"worker_id": worker_id, "model": "fixture-linear", **speeds}
        return self.training.request_cycle(message)

    def ask(self, worker_id):
        return self.request(worker_id).answer

    def enter(self, worker_id=None):
        """Assign a worker, by default a new one; return what proves its assignment."""
        worker_id = worker_id or self.authenticated()
        return {"worker_id": worker_id, "request_key": self.ask(worker_id)["request_key"]}

    def report(self, proof, diff=DIFF):
        return self.training.report({**proof, "diff": diff})

    def download(self, proof):
        return self.downloads.model(proof | {"model_id": "1"}).read()

    def close(self):
        for cycle_id in self.due:
            list(self.closer.close(cycle_id))


@pytest.fixture
def scene(tmp_path, recorded):
    """Create scenes with changes to the recorded rules; see `Scene`."""
    scenes = []

    def start(opening_delay=0.0, spare_workers=0, **rules):
        upload = recorded(**{f"server_config__{key}": value for key, value in rules.items()})
        scenes.append(Scene(f"sqlite:///{tmp_path}/db", upload, opening_delay, spare_workers))
        return scenes[-1]

    yield start
    for each in scenes:
        each.database.close()


def test_cycle_has_at_most_max_workers(scene):
    """The next worker gets the time at which the first lease expires."""
    scene = scene(max_workers=3)
    for scene.now in (0.0, 10.0, 20.0):
        scene.enter()
    rejection = scene.ask(scene.authenticated())

    assert (rejection["status"], rejection["timeout"]) == ("rejected", 80)


@pytest.mark.parametrize(
    ("max_workers", "spare_workers", "assigned"),
    [(1, 25, 2), (4, 25, 5), (5, 25, 7), (10, 10, 11), (3, 0, 3), (2, 100, 4)],
)
def test_more_workers_than_max_workers_are_assigned(scene, max_workers, spare_workers, assigned):
    """So a phone that lacks a column, and never reports, does not keep all others from the cycle."""
    scene = scene(max_diffs=None, max_workers=max_workers, spare_workers=spare_workers)
    answers = [scene.ask(scene.authenticated()) for _ in range(assigned + 1)]

    assert [answer["status"] for answer in answers] == ["accepted"] * assigned + ["rejected"]
    assert answers[-1]["timeout"] == 100


def test_spare_workers_add_no_report_to_a_cycle(scene):
    """It ends with `max_workers` reports; the next one comes too late."""
    scene = scene(max_diffs=None, max_workers=4, spare_workers=25)
    proofs = [scene.enter() for _ in range(5)]
    for proof in proofs[:4]:
        assert scene.report(proof) == SUCCESS

    assert scene.report(proofs[4]) == LATE
    assert scene.due == [1]
    assert scene.cycles.cycle(1).counted == 4
    scene.close()
    assert scene.cycles.open_cycle(1).counted == 0


def test_spare_worker_reports_in_place_of_one_that_never_does(scene):
    """The cycle ends by count before any lease expires."""
    scene = scene(max_diffs=None, max_workers=1, spare_workers=25)
    scene.enter()
    scene.report(scene.enter())
    scene.close()

    assert scene.cycles.open_cycle(1).number == 2


def test_assignment_of_a_worker_that_has_reported_does_not_expire(scene):
    """Its diff is counted, so no other worker may take it over."""
    scene = scene(max_workers=2, max_diffs=2)
    scene.report(scene.enter())
    scene.enter()
    late = scene.authenticated()
    waits = [scene.ask(late)["timeout"]]
    scene.now = 100.0
    given = scene.ask(late)["status"]
    waits.append(scene.ask(scene.authenticated())["timeout"])

    assert (waits, given) == ([100, 100], "accepted")


def test_expired_assignment_goes_to_another_worker_and_the_first_may_still_report(scene):
    """While the cycle wants diffs, every valid one is counted."""
    scene = scene(max_workers=2, max_diffs=2)
    slow, gone = scene.enter(), scene.enter()
    scene.now = 100.0
    other = scene.enter()

    assert [scene.report(proof) for proof in (slow, other)] == [SUCCESS] * 2
    assert scene.due == [1]
    assert scene.report(gone) == LATE


def test_worker_that_returns_gets_its_expired_assignment_back(scene):
    """The key stays the same, so that neither of its reports is refused; they count once."""
    scene = scene(max_workers=1)
    worker_id = scene.authenticated()
    before = scene.enter(worker_id)
    scene.now = 99.0
    assert scene.ask(worker_id)["timeout"] == 501
    scene.now = 100.0
    again = scene.enter(worker_id)

    assert again == before
    assert scene.ask(scene.authenticated())["timeout"] == 100
    assert scene.report(before) == scene.report(again) == SUCCESS
    assert scene.cycles.cycle(1).counted == 1


def test_without_max_workers_every_worker_is_assigned(scene):
    """There may be more workers than diffs that the cycle will count."""
    scene = scene(max_workers=None, max_diffs=1)
    proofs = [scene.enter() for _ in range(20)]

    assert scene.report(proofs[7]) == SUCCESS
    assert scene.request(scene.authenticated()).averaging == 1


def test_worker_rests_after_a_cycle_that_counted_its_diff(scene):
    """It rests for `do_not_reuse_workers_until_cycle` cycles, but only if its diff was counted."""
    scene = scene(max_diffs=1, num_cycles=4, do_not_reuse_workers_until_cycle=2)
    trained, idle = scene.authenticated(), scene.authenticated()
    proof = scene.enter(trained)
    scene.enter(idle)
    scene.report(proof)
    scene.close()

    second = {"trained": scene.ask(trained), "idle": scene.ask(idle)}
    assert (second["trained"]["status"], second["idle"]["status"]) == ("rejected", "accepted")
    assert second["trained"]["timeout"] == 600
    scene.report({"worker_id": idle, "request_key": second["idle"]["request_key"]})
    scene.close()
    assert scene.ask(trained)["status"] == "accepted"


@pytest.mark.parametrize("selection", ["random", "iterate", None])
def test_workers_are_assigned_in_the_order_of_their_requests(scene, selection):
    """`pool_selection` has no effect, because there is no pool to choose from."""
    scene = scene(pool_selection=selection, max_workers=3)
    answers = [scene.ask(scene.authenticated())["status"] for _ in range(5)]

    assert answers == ["accepted"] * 3 + ["rejected"] * 2


def test_repeated_report_is_always_a_success(scene):
    """Its first answer may have been lost, even if the cycle is closed. A late report stays uncounted."""
    scene = scene(max_diffs=1)
    counted, late = scene.enter(), scene.enter()
    answers = [scene.report(counted), scene.report(counted)]
    scene.close()
    answers.append(scene.report(counted))

    assert answers == [SUCCESS] * 3
    assert [scene.report(late) for _ in range(2)] == [LATE] * 2
    assert scene.cycles.cycle(2).counted == 0


def test_report_that_was_missing_makes_a_late_cycle_due(scene):
    """`on_opened` is called at the upload, so that the timer of the first cycle is set."""
    scene = scene(max_diffs=5, min_diffs=2)
    proofs = [scene.enter() for _ in range(2)]
    scene.report(proofs[0])
    scene.now = 600.0
    assert scene.due == []
    scene.report(proofs[1])

    assert (scene.due, scene.opened) == ([1], [0.0])
    scene.close()
    assert scene.cycles.open_cycle(1).number == 2


def test_request_for_a_due_cycle_has_it_averaged(scene):
    """The replica that received the last report may have died since."""
    scene = scene(max_diffs=5)
    scene.report(scene.enter())
    scene.now = 600.0
    reply = scene.request(scene.authenticated())

    assert (reply.answer["timeout"], reply.averaging) == (1, 1)
    assert scene.due == [1]
    scene.close()
    assert scene.enter()


def test_no_worker_is_assigned_to_a_pending_cycle(scene):
    """The orchestrator would count its loss in the cycle before; it may wait, or ask again in a second."""
    scene = scene(max_diffs=1, opening_delay=2.0)
    counted, late = scene.enter(), scene.enter()
    scene.report(counted)
    scene.close()
    scene.now = 1.9
    reply = scene.request(scene.authenticated())

    assert (reply.answer["status"], reply.answer["timeout"], reply.is_pending) == ("rejected", 1, True)
    with pytest.raises(CycleNotFound):
        scene.download(late)
    assert [scene.report(late), scene.report(counted)] == [LATE, SUCCESS]
    scene.now = 2.0
    assert scene.enter()


def test_worker_trains_in_the_cycle_that_the_accepted_progress_has_opened(scene):
    """Its lease, its download and its report are those of any cycle."""
    scene = scene(max_diffs=1, max_workers=1, opening_delay=2.0)
    scene.report(scene.enter())
    scene.close()
    scene.now = 0.5
    [message] = scene.outbox.oldest_of_each_model()
    scene.outbox.delete(message, scene.now)
    proof = scene.enter()
    rejection = scene.ask(scene.authenticated())

    assert scene.cycles.next_expiry(scene.cycles.open_cycle(1), scene.now) == 100.5
    assert rejection["timeout"] == 100
    assert scene.download(proof)
    assert scene.report(proof) == SUCCESS


def test_training_is_finished_when_its_last_cycle_is_closed(scene):
    """No cycle is pending, whether or not the orchestrator has answered."""
    scene = scene(max_diffs=1, num_cycles=1, opening_delay=2.0)
    scene.report(scene.enter())
    scene.close()

    assert scene.request(scene.authenticated()).answer == {"status": "rejected"}


@pytest.fixture(scope="module")
def pair():
    """A private key and its public key, as PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


def test_token_signed_with_the_private_key_is_accepted(pair):
    """The upload holds the public key; with a secret beside it, a token of either kind is accepted."""
    private, public = pair
    by_key = jwt.encode({"sub": "phone-1", "aud": "any"}, private, algorithm="RS256")
    by_secret = jwt.encode({}, "s3cret", algorithm="HS256")

    check_token({"pub_key": public}, by_key)
    for token in (by_key, by_secret):
        check_token({"secret": "s3cret", "pub_key": public}, token)


@pytest.mark.parametrize("algorithm", ["RS512", "HS256"])
def test_public_key_verifies_tokens_of_one_algorithm_only(pair, algorithm):
    """With HS256, the public key would be a secret that everyone knows."""
    private, public = pair
    token = jwt.encode({}, private if algorithm == "RS512" else "s3cret", algorithm=algorithm)
    with pytest.raises(AuthenticationFailed, match="The 'auth_token' you sent is invalid"):
        check_token({"pub_key": public}, token)


@pytest.mark.parametrize("key", ["no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_malformed_key_accepts_no_token(pair, key):
    """The answer is that of a wrong token: the fault is the uploader's."""
    token = jwt.encode({}, pair[0], algorithm="RS256")
    with pytest.raises(AuthenticationFailed, match="invalid"):
        check_token({"pub_key": key}, token)


@pytest.mark.moto
@pytest.mark.parametrize("minimum", [0, None])
def test_speeds_are_required_only_if_the_upload_has_a_minimum(node, recorded, minimum):
    """Any speed is enough for a minimum of 0, whatever the worker sends."""
    changes = {f"server_config__minimum_{way}_speed": minimum for way in ("upload", "download")}
    node.upload(recorded(**changes))
    worker = node.worker("fixture-linear", ping=None)

    assert worker.authenticated["requires_speed_test"] is False
    assert worker.accepted["status"] == "accepted"


SECRET = "s3cret"


def token(key=SECRET, **claims):
    return jwt.encode({"sub": "phone-1", **claims}, key, algorithm="HS256")


@pytest.mark.moto
@pytest.mark.parametrize(
    ("auth_token", "ok"),
    [(token(), True), (token("other"), False), (token(exp=1), False), ("junk", False), (7, False)],
)
def test_model_may_require_a_token(node, recorded, auth_token, ok):
    """The token must be signed with the secret of the upload, and not expired."""
    node.upload(recorded(server_config__authentication={"secret": SECRET}))
    answer = node.ask("authenticate", {"model_name": "fixture-linear", "auth_token": auth_token})

    assert answer.get("status") == ("success" if ok else None)
    assert answer.get("error") == (None if ok else "The 'auth_token' you sent is invalid.")


@pytest.mark.moto
def test_worker_of_an_open_model_gets_no_assignment_in_one_with_tokens(node, recorded):
    """A worker id is valid for all open models; a model with tokens needs its own."""
    node.upload(recorded())
    node.upload(recorded(client_config__name="open"))
    node.upload(recorded(client_config__name="closed", server_config__authentication={"secret": SECRET}))
    worker = node.worker("fixture-linear")
    answers = [node.ask("cycle-request", worker.request | {"model": name}) for name in ("open", "closed")]

    assert answers[0]["status"] == "accepted"
    assert answers[1] == {"status": "rejected", "error": "Worker ID not found!"}
