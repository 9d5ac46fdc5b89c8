import json
import shutil
import subprocess

from local_platform.curls import curls

ENVIRONMENT = {
    "DATASET_ID": "Diabetes progression",
    "MODEL_ID": "m",
    "DS_USERNAME": "ada",
    "DEVELOPER_USERNAME": "g",
}
ROUTES = {
    "GET /", "POST /create", "POST /delete", "POST /info", "POST /model_loss", "POST /model_progress",
    "POST /generate_key", "POST /get_datasets",
}  # fmt: skip


def body_of(command):
    """What a shell makes of everything after `-d`."""
    script = f"printf %s {command.partition(' -d ')[2]}"
    shell = subprocess.run(  # noqa: S603 - our own text
        [shutil.which("sh"), "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return json.loads(shell.stdout)


def test_every_route_has_its_curl():
    """One each."""
    shown = [curl.route for curl in curls()]

    assert len(shown) == len(ROUTES)
    assert set(shown) == ROUTES


def test_bodies_are_json_after_the_shell_has_read_them():
    """They are pasted into one."""
    bodies = {curl.route: body_of(curl.command) for curl in curls() if " -d " in curl.command}

    assert bodies["POST /create"] == {
        "dataset_id": "Diabetes progression",
        "model_id": "m",
        "features": ["age", "bmi"],
        "labels": ["progression"],
    }
    assert bodies["POST /model_loss"] == {"model_id": "m", "loss": 0.5, "acc": -1}


def test_phone_sends_its_key_with_the_underscore():
    """As the pod does."""
    (info,) = (curl for curl in curls() if curl.route == "POST /info")

    assert '-H "api_key: $API_KEY"' in info.command
