"""GET /: for load balancers."""


def test_it_is_the_text_running(client):
    """The one answer that isn't JSON."""
    answer = client.get("/")

    assert (answer.status_code, answer.text) == (200, "Running")
    assert answer.content_type.startswith("text/plain")


def test_it_touches_nothing(client, world):
    """It answers while AWS is away."""
    world.dynamodb.throttle = 1.0
    world.stacks.away = world.bucket.away = True

    assert client.get("/").status_code == 200
