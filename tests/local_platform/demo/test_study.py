import numpy as np
import pytest

from local_platform.demo import study


@pytest.fixture(scope="module")
def records():
    return study.load()


@pytest.mark.moto
def test_columns_are_standardized(records):
    """The data is scikit-learn's, whose import takes two seconds."""
    assert records.X.shape == (442, 10)
    for columns in (records.X, records.y):
        np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(columns.std(axis=0), 1, atol=1e-5)


@pytest.mark.moto
def test_shards_hold_each_patient_once(records):
    shards = study.shards(records)

    assert {len(shard) for shard in shards} == {13}
    np.testing.assert_array_equal(np.concatenate([shard.X for shard in shards]), records.X)


@pytest.mark.moto
def test_descent_converges_to_least_squares(records):
    """The learning rate is below the limit of divergence."""
    trained = study.pooled_descent(records, steps=3000)

    assert study.mean_squared_error(records, *trained) == pytest.approx(
        study.least_squares_error(records), rel=1e-3
    )
