"""The architecture has tests; layers that are not tested do not stay."""

import ast
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.api import auth
from tests.orchestration.test_settings import COMPLETE

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / "src" / "orchestration"
CALLERS = {
    "/": "anybody",
    "/create": "user",
    "/delete": "user",
    "/generate_key": "user",
    "/get_datasets": "user",
    "/info": "device",
    "/model_loss": "anybody",
    "/model_progress": "node",
    "/model_upload": "node",
    "/rotate_link": "user",
    "/download/<free_text:model_id>": "anybody",
}
READS_ENVIRONMENT = {
    "gunicorn_conf.py",
    "provisioning/synthesizer.py",  # hands its environment on to a child process
}
HEAVY = [
    "aws_cdk",
    "jsii",
    "moto",
    "torch",
    "numpy",
    "safetensors",
    "matplotlib",
    "sklearn",
    "local_platform",
]


def test_every_route_declares_its_caller(shared_app):
    """A route that is added without one fails here."""
    declared = {
        rule.rule: getattr(shared_app.view_functions[rule.endpoint], auth.CALLER, None)
        for rule in shared_app.url_map.iter_rules()
        if rule.endpoint != "static"
    }

    assert declared == CALLERS


def test_a_view_that_anybody_may_call_says_what_makes_that_safe(shared_app):
    """In its docstring."""
    views = [
        view for view in shared_app.view_functions.values() if getattr(view, auth.CALLER, "") == "anybody"
    ]

    assert len(views) == 3
    assert all(len(view.__doc__ or "") > 40 for view in views)


def test_a_web_worker_carries_nothing_heavy():
    """Neither the CDK, which starts Node.js, nor what only the reconciler or the tests need."""
    script = f"import sys, orchestration.wsgi; print([name for name in {HEAVY} if name in sys.modules])"
    answer = _fresh_interpreter(script)

    assert answer.stderr == ""
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("--help", set()),
        ("local --help", set()),
        ("local token --directory no-such-directory", {"boto3"}),
    ],
)
def test_the_command_line_loads_only_what_a_command_needs(command, allowed):
    """Loading scikit-learn takes longer than `--help` may."""
    heavy = {*HEAVY, "boto3", "pydantic", "flask", "rich"} - {"local_platform", *allowed}
    script = f"""
import sys, click, orchestration.cli
try:
    orchestration.cli.main({command.split()}, standalone_mode=False)
except click.ClickException as error:
    print(error.message)
print(sorted({heavy} & sys.modules.keys()), "local_platform.cli" in sys.modules)
"""
    answer = _fresh_interpreter(script)

    assert answer.stderr == ""
    assert answer.stdout.splitlines()[-1] == "[] True"


def test_an_incomplete_environment_stops_the_start():
    """With the names of all that is missing."""
    answer = _fresh_interpreter("import orchestration.wsgi", complete=False)

    assert answer.returncode != 0
    assert all(name.lower() in answer.stderr for name in COMPLETE if name != "AWS_DEFAULT_REGION")


def test_only_settings_read_the_environment():
    """pydantic does it for settings.py; nobody else looks."""
    readers = {
        str(path.relative_to(SERVICE)) for path in SERVICE.rglob("*.py") if _reads_environment(_tree(path))
    }

    assert readers <= READS_ENVIRONMENT


def test_the_domain_has_neither_clock_nor_chance_of_its_own():
    """Plain Python: what it needs is passed in. Exceptions: keys, and which losses a sample keeps."""
    allowed = {"credentials.py": {"secrets"}, "cycle.py": {"random"}}
    for path in (SERVICE / "domain").glob("*.py"):
        imported = _imported(_tree(path)) & {
            "time",
            "datetime",
            "random",
            "secrets",
            "os",
            "pathlib",
            "socket",
        }

        assert imported <= allowed.get(path.name, set()), path.name


def test_nothing_prints_but_the_command_line():
    """Logs are structured."""
    talkers = [
        path.name
        for path in SERVICE.rglob("*.py")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert talkers == []


@pytest.mark.parametrize("path", sorted((ROOT / "bench").glob("*.py")), ids=lambda path: path.name)
def test_benchmark_can_be_imported(path):
    """Benchmarks are run by hand, so a name that moved would go unnoticed."""
    assert callable(runpy.run_path(str(path), run_name="imported")["main"])


def test_import_rules_hold():
    """The contracts of pyproject.toml, where the linter is installed."""
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is a tool of developers")
    answer = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603

    assert answer.returncode == 0, answer.stdout


def _fresh_interpreter(script: str, *, complete: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]}
    return subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", script],
        env=environment | (COMPLETE if complete else {}),
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _reads_environment(tree: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
        for node in ast.walk(tree)
    )


def _imported(tree: ast.Module) -> set[str]:
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").partition(".")[0])
    return modules
