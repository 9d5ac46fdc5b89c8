"""What is built from, and with: pinned, so that nobody else decides what runs here."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OURS = ("orchestration", "pygrid_node", "pygrid_wire", "local_platform")
STACKS = "src/orchestration/stacks"
"""Only synthesized before an image is built, so no image contains them."""
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


@pytest.mark.parametrize("image", ["requirements-service.txt", "requirements-node.txt"])
def test_an_image_gets_what_the_tests_ran_on(image):
    """Each version in the image's list is that of the tests' list, and theirs that of the developers'."""
    versions, tests, developers = (
        _versions(ROOT / name) for name in (image, "requirements.txt", "requirements-dev.txt")
    )

    assert versions.items() <= tests.items() <= developers.items()


@pytest.mark.parametrize(
    ("image", "packages"),
    [("service", ("orchestration", "pygrid_wire")), ("node", ("pygrid_node", "pygrid_wire"))],
)
def test_an_image_s_list_has_all_that_its_code_imports(image, packages):
    """The tests' environment has more: what is missing in a list would be missed in the image only."""
    listed = _versions(ROOT / f"requirements-{image}.txt").keys()
    of_module = packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}: {module}"
        for package in packages
        for path in (ROOT / "src" / package).rglob("*.py")
        if not path.is_relative_to(ROOT / STACKS)
        for module in _imported_at_run_time(path)
        if module in of_module
        and module not in OURS
        and not {name.lower().replace("_", "-") for name in of_module[module]} & listed
    }

    assert missing == set()


def test_image_of_the_service_works_without_the_stacks(tmp_path):
    """The service imports none of them, and deploys from the templates' snapshots."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    for package in ("orchestration", "pygrid_wire"):
        shutil.copytree(
            ROOT / "src" / package, tmp_path / package, ignore=shutil.ignore_patterns("stacks", "__pycache__")
        )
    script = (
        "import orchestration.cli, orchestration.pygrid_orchestration, orchestration.provisioning.deploy\n"
        "from orchestration.provisioning.synthesizer import TemplateName, load_template\n"
        "assert all(load_template(name) for name in TemplateName)\n"
        "print(orchestration.pygrid_orchestration.__file__)"
    )
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert rules.index(STACKS) > rules.index("!src/orchestration"), "the last matching rule decides"
    assert run.stderr == ""
    assert run.stdout == f"{Path(tmp_path, 'orchestration', 'pygrid_orchestration.py')}\n"


def _imported_at_run_time(path):
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _versions(requirements):
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", requirements.read_text(), re.MULTILINE))
