"""What the documentation names exists in the code."""

import re
import tomllib
from pathlib import Path

import pytest

from orchestration.settings import Settings as ServiceSettings
from pygrid_node.settings import Settings as NodeSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVICE, NODE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").split("\n## The node\n")
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \| ", re.MULTILINE)
UNSET = (None, "")


def described(field):
    """Return the default of a field as the tables write it."""
    if field.is_required():
        return "required"
    if field.default in UNSET:
        return "none"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return str(field.default)


def of_gunicorn():
    """Return the settings that only gunicorn's configuration reads, with their defaults."""
    source = (ROOT / "src" / "orchestration" / "gunicorn_conf.py").read_text(encoding="utf-8")
    read = re.findall(r'os\.environ\.get\("(\w+)"(?:, "(.*?)")?\)', source)
    return {name: default or "none" for name, default in read}


@pytest.mark.parametrize(
    ("text", "settings", "others"),
    [(SERVICE, ServiceSettings, of_gunicorn()), (NODE, NodeSettings, {})],
    ids=["service", "node"],
)
def test_settings_are_documented_with_their_defaults(text, settings, others):
    """Every setting of the code has one row, and every row is a setting of the code."""
    rows = ROW.findall(text)
    fields = {name.upper(): described(field) for name, field in settings.model_fields.items()}

    assert len(rows) == len(dict(rows))
    assert dict(rows) == fields | others


def test_functions_in_the_documentation_exist():
    """`file.py: function` names a function, class or constant of that file."""
    named = [
        (path.name, *match)
        for path in (ROOT / "docs").glob("*.md")
        for match in re.findall(r"`([\w/]+\.py): ([\w.]+)`", path.read_text(encoding="utf-8"))
    ]
    missing = [reference for reference in named if not is_defined(*reference[1:])]

    assert len(named) > 20
    assert missing == []


def is_defined(file, name):
    """Return whether one file whose path ends like this defines every part of the dotted name."""
    sources = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "src").rglob(Path(file).name)
        if path.match(f"*/{file}")
    ]
    parts = [rf"^\s*(?:async def|def|class) {part}\b|^{part}(?::.*)? =" for part in name.split(".")]
    return any(all(re.search(part, source, re.MULTILINE) for part in parts) for source in sources)


def test_readme_has_every_route(shared_app):
    """The table of the API names each route with its method."""
    rules = {
        f"{method} {re.sub(r'<.*:', '<', rule.rule)}"
        for rule in shared_app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert set(re.findall(r"^\| `((?:GET|POST) .*?)` \|", README, re.MULTILINE)) == rules


def test_readme_says_what_each_library_is_for():
    """The table names each direct dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    table = README.split("### Libraries, and why")[1].split("\n## ")[0]
    named = {name for row in re.findall(r"^\| (.*?) \| ", table, re.MULTILINE) for name in row.split(", ")}
    direct = {re.sub(r"\[[a-z0-9-]+,.*\]", "", name) for group in groups for name in group}

    assert named - {"library", "---"} == direct
