"""What is built from, and with: pinned, so that nobody else decides what runs here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(workflow):
    """A tag can be moved to other code; beside the commit stands the version it was."""
    used = re.findall(r"uses: (\S+)(.*)", workflow.read_text())

    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # v\d+(\.\d+)*", comment), action


@pytest.mark.parametrize("requirements", REQUIREMENTS, ids=lambda path: path.name)
def test_packages_are_pinned_with_hashes(requirements):
    """And say nothing about where they came from."""
    text = requirements.read_text()
    packages = re.findall(r"^([A-Za-z0-9_.-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)

    assert len(packages) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)) > 20
    assert not re.search(r"https?://|--index|--find-links|file://", text)


def test_the_image_gets_what_the_tests_ran_on():
    """Each version in the image's list is that of the tests' list, and theirs that of the developers'."""
    image, tests, developers = (
        _versions(ROOT / name)
        for name in ("requirements-service.txt", "requirements.txt", "requirements-dev.txt")
    )

    assert image.items() <= tests.items() <= developers.items()


def _versions(requirements):
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", requirements.read_text(), re.MULTILINE))
