"""Each check fails when its statement is false."""

import numpy as np
import pytest

from local_platform.demo import results, study


@pytest.fixture(scope="module")
def records():
    generator = np.random.default_rng(0)
    measured = generator.normal(size=(442, 10))
    progression = measured @ generator.normal(size=(10, 1)) + generator.normal(size=(442, 1))
    columns = (((v - v.mean(0)) / v.std(0)).astype(np.float32) for v in (measured, progression))
    return study.Records(*columns)


@pytest.fixture
def tensors(records):
    weight, bias = study.pooled_descent(records)
    return {"param_000": weight, "param_001": bias}


@pytest.fixture
def history(records):
    """Results of a training without any fault."""
    descent = [study.pooled_descent(records, steps=done) for done in range(study.CYCLES)]
    losses = [study.mean_squared_error(records, *parameters) for parameters in descent]
    return [{"devices": study.PHONES, "loss": loss} for loss in losses]


def failed(checks):
    return [check.claim for check in checks if not check.holds]


def test_training_of_all_phones_holds():
    assert results.check_training([study.CYCLES] * study.PHONES).holds


@pytest.mark.parametrize(
    "times", [[study.CYCLES] * 33, [study.CYCLES] * 33 + [9], [study.CYCLES] * 33 + [11]]
)
def test_phone_that_trained_too_rarely_or_too_often_is_noticed(times):
    assert not results.check_training(times).holds


def test_gradient_descent_holds(records, tensors):
    assert failed(results.check_model(records, tensors)) == []


def test_other_parameters_are_noticed(records, tensors):
    tensors["param_001"] = tensors["param_001"] + np.float32(1e-4)

    assert failed(results.check_model(records, tensors)) == ["The model equals training on pooled data"]


def test_untrained_model_is_noticed(records):
    untrained = {"param_000": np.zeros((1, 10), np.float32), "param_001": np.zeros(1, np.float32)}

    assert len(failed(results.check_model(records, untrained))) == 2


def test_true_history_holds(records, history):
    assert failed(results.check_losses(records, history, killed=False)) == []


@pytest.mark.parametrize("killed", [False, True])
def test_lost_report_is_noticed(records, history, killed):
    history[3]["devices"] -= 1
    [claim] = failed(results.check_losses(records, history, killed=killed))

    assert claim.startswith("Every loss report was counted")


def test_repeated_report_is_accepted_only_after_a_kill(records, history):
    """A phone that got no answer has sent its report again."""
    history[3]["devices"] += 1

    assert failed(results.check_losses(records, history, killed=True)) == []
    assert failed(results.check_losses(records, history, killed=False)) == [
        "Every loss report was counted once, in its cycle"
    ]


def test_report_in_another_cycle_is_accepted_only_after_a_kill(records, history):
    """The sum is right all the same."""
    history[3]["devices"] += 1
    history[4]["devices"] -= 1

    assert failed(results.check_losses(records, history, killed=True)) == []
    assert failed(results.check_losses(records, history, killed=False)) == [
        "Every loss report was counted once, in its cycle"
    ]


@pytest.mark.parametrize(("off", "killed"), [(1e-4, False), (0.2, True)])
def test_wrong_mean_is_noticed(records, history, off, killed):
    history[5]["loss"] += off
    [claim] = failed(results.check_losses(records, history, killed=killed))

    assert "mean loss is correct" in claim


def test_missing_cycle_is_noticed(records, history):
    assert len(failed(results.check_losses(records, history[:-1], killed=False))) == 2


def test_rising_loss_is_noticed(records, history):
    assert "The loss fell" in failed(results.check_losses(records, history[::-1], killed=False))


@pytest.mark.moto
def test_plot_is_a_png(tmp_path):
    """It loads matplotlib, which takes a second."""
    results.plot_losses(tmp_path / "loss.png", [1.0, 0.5], 0.4)

    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
