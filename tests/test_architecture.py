"""Rules of the architecture."""

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
    "/": "public",
    "/create": "user",
    "/delete": "user",
    "/generate_key": "user",
    "/get_datasets": "user",
    "/info": "device",
    "/model_loss": "public",
    "/model_progress": "node",
    "/model_upload": "node",
    "/rotate_link": "user",
    "/download/<free_text:model_id>": "public",
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
    """A new route must declare one."""
    declared = {
        rule.rule: getattr(shared_app.view_functions[rule.endpoint], auth.CALLER, None)
        for rule in shared_app.url_map.iter_rules()
        if rule.endpoint != "static"
    }

    assert declared == CALLERS


def test_public_view_documents_why_it_is_safe(shared_app):
    """Its docstring contains the reason."""
    views = [
        view for view in shared_app.view_functions.values() if getattr(view, auth.CALLER, "") == "public"
    ]

    assert len(views) == 3
    assert all(len(view.__doc__ or "") > 40 for view in views)


def test_web_process_loads_no_heavy_module():
    """It needs neither the CDK, which starts Node.js, nor modules of the reconciler or the tests."""
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
def test_command_line_loads_only_needed_modules(command, allowed):
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


def test_incomplete_environment_stops_the_start():
    """The error names all missing variables."""
    answer = _fresh_interpreter("import orchestration.wsgi", complete=False)

    assert answer.returncode != 0
    assert all(name.lower() in answer.stderr for name in COMPLETE if name != "AWS_DEFAULT_REGION")


def test_only_settings_read_the_environment():
    """pydantic reads it for settings.py."""
    readers = {
        str(path.relative_to(SERVICE)) for path in SERVICE.rglob("*.py") if _reads_environment(_tree(path))
    }

    assert readers <= READS_ENVIRONMENT


def test_domain_uses_neither_clock_nor_environment():
    """They are passed in. Exceptions: generating keys, choosing losses for a sample, writing a time out."""
    allowed = {
        "credentials.py": {"secrets", "datetime"},
        "cycle.py": {"random"},
        "decision.py": {"datetime"},
    }
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


def test_only_the_command_line_prints():
    """Logs are structured."""
    printing = [
        path.name
        for path in SERVICE.rglob("*.py")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert printing == []


@pytest.mark.parametrize("path", sorted((ROOT / "bench").glob("*.py")), ids=lambda path: path.name)
def test_benchmark_can_be_imported(path):
    """Benchmarks are run by hand, so a name that moved would go unnoticed."""
    assert callable(runpy.run_path(str(path), run_name="imported")["main"])


def test_import_rules_hold():
    """The linter checks the contracts of pyproject.toml, where it is installed."""
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
