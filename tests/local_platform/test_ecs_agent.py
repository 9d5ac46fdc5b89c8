import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from local_platform.ecs_agent import (
    RETRY_INTERVAL,
    Agent,
    Container,
    Ecs,
    Plan,
    Service,
    UnrunnableError,
    plan,
    serve,
)
from tests.fakes import FakeClock

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:node/n1-AbCdEf"
FIRST = Service("arn:first", "task:1", ("group",))
NEWER = Service("arn:first", "task:2", ("group",))
SECOND = Service("arn:second", "task:7", ("group",))


class StubClient:
    """A boto3 client with fixed answers."""

    def __init__(self, **answers):
        self._answers = answers

    def __getattr__(self, operation):
        return lambda **_: self._answers[operation]


def ecs_of(definitions=(), load_balancers=(), value="{}"):
    return Ecs(
        StubClient(describe_task_definition={"taskDefinition": {"containerDefinitions": list(definitions)}}),
        StubClient(
            describe_target_groups={"TargetGroups": [{"LoadBalancerArns": list(load_balancers)}]},
            describe_load_balancers={"LoadBalancers": [{"DNSName": "127.1.2.3"}]},
        ),
        StubClient(get_secret_value={"SecretString": value}),
    )


def test_container_has_its_environment_and_secrets():
    """Secrets are references: their values are read when the container starts."""
    declared = {
        "name": "node",
        "image": "artificien/pygrid-node:1",
        "environment": [{"name": "PORT", "value": "5000"}],
        "secrets": [{"name": "DATABASE_URL", "valueFrom": f"{ARN}:DATABASE_URL::"}],
    }
    container = ecs_of([declared]).container("arn:task:1")

    assert container.environment == {"PORT": "5000"}
    assert container.secrets == {"DATABASE_URL": f"{ARN}:DATABASE_URL::"}


def test_container_may_have_no_environment():
    """ECS leaves out empty lists."""
    assert ecs_of([{"name": "node", "image": "i"}]).container("arn:task:1").secrets == {}


@pytest.mark.parametrize("count", [0, 2])
def test_task_must_have_one_container(count):
    """Sidecars are not supported."""
    with pytest.raises(UnrunnableError, match=f"{count} containers"):
        ecs_of([{"name": "node", "image": "i"}] * count).container("arn:task:1")


def test_address_is_that_of_the_load_balancer():
    """The process listens in the load balancer's place."""
    assert ecs_of(load_balancers=["arn:balancer"]).address(FIRST) == "127.1.2.3"


def test_service_without_a_target_group_is_refused():
    """It has no address."""
    with pytest.raises(UnrunnableError, match="no target group"):
        ecs_of().address(Service("arn:service", "arn:task:1", ()))


def test_service_without_a_listener_is_refused():
    """Its stack may be incomplete."""
    with pytest.raises(UnrunnableError, match="No listener"):
        ecs_of().address(FIRST)


def test_secret_is_read_by_its_key():
    """ECS's form: the ARN, the key in the JSON, and two empty fields for version and stage."""
    ecs = ecs_of(value='{"DATABASE_URL": "sqlite:////d/"}')

    assert ecs.secret(f"{ARN}:DATABASE_URL::") == "sqlite:////d/"


def test_secret_without_a_key_is_read_whole():
    assert ecs_of(value="all of it").secret(ARN) == "all of it"


@pytest.mark.parametrize("value", ["no JSON", '{"OTHER": "x"}'])
def test_secret_that_lacks_the_key_is_refused(value):
    """The container must not start with an empty variable."""
    with pytest.raises(UnrunnableError, match="has no key DATABASE_URL"):
        ecs_of(value=value).secret(f"{ARN}:DATABASE_URL::")


def test_container_does_not_show_its_secrets():
    """Containers may be logged."""
    declared = {"name": "n", "image": "i", "secrets": [{"name": "A", "valueFrom": ARN}]}

    assert ARN not in repr(ecs_of([declared]).container("t"))


@pytest.mark.parametrize(
    ("desired", "running", "refused", "expected"),
    [
        pytest.param([], {}, {}, Plan(), id="nothing"),
        pytest.param([FIRST], {}, {}, Plan(starts=(FIRST,)), id="new"),
        pytest.param([FIRST], {"arn:first": "task:1"}, {}, Plan(), id="running"),
        pytest.param([], {"arn:first": "task:1"}, {}, Plan(stops=("arn:first",)), id="deleted"),
        pytest.param(
            [NEWER],
            {"arn:first": "task:1"},
            {},
            Plan(stops=("arn:first",), starts=(NEWER,)),
            id="another definition",
        ),
        pytest.param([FIRST], {}, {"arn:first": "task:1"}, Plan(), id="refused lately"),
        pytest.param([NEWER], {}, {"arn:first": "task:1"}, Plan(starts=(NEWER,)), id="refused, then changed"),
        pytest.param(
            [FIRST, SECOND],
            {"arn:second": "task:7", "arn:third": "task:3"},
            {},
            Plan(stops=("arn:third",), starts=(FIRST,)),
            id="several",
        ),
    ],
)
def test_plan(desired, running, refused, expected):
    """The agent stops services that are not desired, and starts those that are not running."""
    assert plan(desired, running, refused) == expected


class FakeEcs:
    """An ECS with one service, whose errors a test sets."""

    def __init__(self):
        self.services = [FIRST]
        self.image = "artificien/pygrid-node:local"
        self.polls = 0
        self.error = None
        self.container_errors = {}
        self.address_errors = []

    def desired_services(self):
        self.polls += 1
        if self.error:
            raise self.error
        return self.services

    def container(self, definition):
        if definition in self.container_errors:
            raise self.container_errors[definition]
        return Container(
            "node", self.image, {"NODE_ID": "n1", "PORT": "5000"}, {"DATABASE_URL": "arn:::key::"}
        )

    def secret(self, reference):
        return f"value of {reference}"

    def address(self, _service):
        if self.address_errors:
            raise self.address_errors.pop()
        return "127.1.2.3"


class FakeSupervisor:
    """Keeps programs without running them."""

    def __init__(self):
        self.programs = {}

    def start(self, program):
        self.programs[program.name] = program

    def stop(self, name):
        del self.programs[name]


@pytest.fixture
def ecs():
    return FakeEcs()


@pytest.fixture
def supervisor():
    return FakeSupervisor()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def agent(ecs, supervisor, tmp_path, clock):
    return Agent(ecs, supervisor, tmp_path, {"artificien/pygrid-node": ("run-node",)}, clock)


def test_container_runs_with_its_secrets_on_the_load_balancers_address(
    agent, supervisor, tmp_path, monkeypatch
):
    """Its environment is the container's, not the operator's."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    agent.poll()
    program = supervisor.programs["arn:first"]

    assert program.command == ("run-node",)
    assert program.environment["DATABASE_URL"] == "value of arn:::key::"
    assert (program.environment["BIND_HOST"], program.environment["PORT"]) == ("127.1.2.3", "5000")
    assert program.log == tmp_path / "n1.log"
    assert "AWS_PROFILE" not in program.environment


def test_container_is_started_once(agent, supervisor):
    agent.poll()
    started = supervisor.programs["arn:first"]
    agent.poll()

    assert supervisor.programs["arn:first"] is started


def test_container_stops_with_its_service(agent, ecs, supervisor):
    agent.poll()
    ecs.services = []
    agent.poll()

    assert supervisor.programs == {}


def test_unknown_image_is_refused_by_name(agent, ecs, supervisor, logs):
    ecs.image = "nginx:latest"
    agent.poll()

    assert supervisor.programs == {}
    assert [(entry["event"], "nginx:latest" in entry["reason"]) for entry in logs] == [
        ("container.refused", True)
    ]


def test_service_that_can_not_start_does_not_stop_the_others(agent, ecs, supervisor):
    """A secret may be missing for one node only."""
    missing = ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": ""}}, "GetSecretValue")
    ecs.services = [FIRST, SECOND]
    ecs.container_errors = {FIRST.definition: missing}
    agent.poll()

    assert list(supervisor.programs) == ["arn:second"]


def test_service_that_can_not_start_is_tried_again_later(agent, ecs, supervisor, clock):
    """The retry is not in the next poll."""
    ecs.address_errors = [UnrunnableError("not yet")]
    agent.poll()
    clock.tick(RETRY_INTERVAL / 2)
    agent.poll()
    before = list(supervisor.programs)
    clock.tick(RETRY_INTERVAL)
    agent.poll()

    assert before == []
    assert list(supervisor.programs) == ["arn:first"]


def test_container_keeps_running_while_aws_is_unreachable(agent, ecs, supervisor, logs):
    """A poll that fails changes nothing, and is logged."""
    agent.poll()
    ecs.error = EndpointConnectionError(endpoint_url="http://127.0.0.1:5055")

    class AfterThreePolls(threading.Event):
        def wait(self, _timeout=None):
            return ecs.polls == 4

    serve(agent, AfterThreePolls())

    assert list(supervisor.programs) == ["arn:first"]
    assert [entry["event"] for entry in logs][-3:] == ["poll.failed"] * 3
