"""`artificien migrate-models`."""

import pytest

from orchestration.pygrid_orchestration import Parts


class Models:
    """A migration with these results."""

    def __init__(self, **results):
        self.results = results

    def run(self):
        yield from self.results.items()


@pytest.mark.parametrize(
    ("results", "status", "output"),
    [
        ({}, 0, "0 models have a record, 0 have none.\n"),
        ({"m1": ""}, 0, "1 models have a record, 0 have none.\n"),
        (
            {"m1": "", "m2": "malformed: version"},
            1,
            "m2  not migrated: malformed: version\n1 models have a record, 1 have none.\n",
        ),
    ],
)
def test_models_that_are_not_migrated_are_printed(run, environment, results, status, output):
    """They need a decision of the operator."""
    environment.setattr(Parts, "migration", Models(**results))
    result = run("migrate-models")

    assert (result.exit_code, result.output) == (status, output)
