import pytest

from local_platform.containers import Ecs, Service, UnrunnableError

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:node/n1-AbCdEf"
SERVICE = Service("arn:service", "arn:task:1", ("arn:group",))


class Answers:
    """A boto3 client that says what it was told to say, and remembers what it was asked."""

    def __init__(self, **answers):
        self._answers = answers
        self.asked = []

    def __getattr__(self, operation):
        def answer(**arguments):
            self.asked.append(arguments)
            return self._answers[operation]

        return answer


def ecs(definitions=(), groups=(), value="{}"):
    return Ecs(
        Answers(describe_task_definition={"taskDefinition": {"containerDefinitions": list(definitions)}}),
        Answers(
            describe_target_groups={"TargetGroups": [{"LoadBalancerArns": list(groups)}]},
            describe_load_balancers={"LoadBalancers": [{"DNSName": "127.1.2.3"}]},
        ),
        Answers(get_secret_value={"SecretString": value}),
    )


def test_container_is_read_with_its_environment_and_secrets():
    """Secrets as references: they are fetched when it starts."""
    declared = {
        "name": "node",
        "image": "artificien/pygrid-node:1",
        "environment": [{"name": "PORT", "value": "5000"}],
        "secrets": [{"name": "DATABASE_URL", "valueFrom": f"{ARN}:DATABASE_URL::"}],
    }
    container = ecs([declared]).container("arn:task:1")

    assert container.environment == {"PORT": "5000"}
    assert container.secrets == {"DATABASE_URL": f"{ARN}:DATABASE_URL::"}


def test_container_may_have_no_environment():
    """ECS leaves empty lists out."""
    assert ecs([{"name": "node", "image": "i"}]).container("arn:task:1").secrets == {}


@pytest.mark.parametrize("count", [0, 2])
def test_task_of_other_than_one_container_is_refused(count):
    """There is no sidecar here."""
    with pytest.raises(UnrunnableError, match=f"{count} containers"):
        ecs([{"name": "node", "image": "i"}] * count).container("arn:task:1")


def test_address_is_that_of_the_balancer():
    """The process takes the balancer's place."""
    assert ecs(groups=["arn:balancer"]).address(SERVICE) == "127.1.2.3"


def test_service_without_a_balancer_is_refused():
    """Nobody could reach it."""
    with pytest.raises(UnrunnableError, match="no target group"):
        ecs().address(Service("arn:service", "arn:task:1", ()))


def test_service_whose_group_has_no_listener_is_refused():
    """The stack may still be on its way."""
    with pytest.raises(UnrunnableError, match="No listener"):
        ecs().address(SERVICE)


def test_secret_is_taken_by_its_key():
    """ECS's form: the ARN, the key in the JSON, and two empty fields for version and stage."""
    assert ecs(value='{"DATABASE_URL": "sqlite:////d/"}').secret(f"{ARN}:DATABASE_URL::") == "sqlite:////d/"


def test_secret_without_a_key_is_taken_whole():
    """A bare ARN."""
    assert ecs(value="all of it").secret(ARN) == "all of it"


@pytest.mark.parametrize("value", ["no JSON", '{"OTHER": "x"}'])
def test_secret_without_the_value_is_refused(value):
    """And not passed on empty."""
    with pytest.raises(UnrunnableError, match="holds no DATABASE_URL"):
        ecs(value=value).secret(f"{ARN}:DATABASE_URL::")


def test_value_of_a_secret_is_not_shown():
    """Containers are logged."""
    container = ecs([{"name": "n", "image": "i", "secrets": [{"name": "A", "valueFrom": ARN}]}]).container(
        "t"
    )

    assert ARN not in repr(container)
