"""GET /: the health check of load balancers."""


def test_health_check_is_plain_text(client):
    """It is the only response that isn't JSON."""
    answer = client.get("/")

    assert (answer.status_code, answer.text) == (200, "Running")
    assert answer.content_type.startswith("text/plain")


def test_health_check_does_not_call_aws(client, world):
    """It succeeds while AWS is unavailable."""
    world.dynamodb.throttle = 1.0
    world.stacks.away = world.bucket.away = True

    assert client.get("/").status_code == 200
