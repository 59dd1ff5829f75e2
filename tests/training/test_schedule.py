import math

import pytest

from rcnnkit.training.schedule import TrainSettings, learning_rate


def test_detectron2s_1x_schedule() -> None:
    # 16 pictures, 0.02, 1000 iterations of warm-up from 1/1000, drops at 60k and 80k of 90k
    settings = TrainSettings()
    assert learning_rate(settings, 0) == pytest.approx(0.02 / 1000)
    assert learning_rate(settings, 500) == pytest.approx(0.02 * (0.001 + 0.999 / 2))
    assert [learning_rate(settings, i) for i in (1000, 59_999, 60_000, 79_999, 80_000, 89_999)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002]
    )


def test_scaled_with_the_batch() -> None:
    assert learning_rate(TrainSettings(batch=2, warmup=0), 0) == pytest.approx(0.02 / 8)
    assert learning_rate(TrainSettings(batch=64, warmup=0), 0) == pytest.approx(0.08)


def test_cosine() -> None:
    settings = TrainSettings(schedule="cosine", iterations=1000, warmup=100, lr_for_16=0.16, batch=1)
    assert learning_rate(settings, 500) == pytest.approx(0.005)
    assert learning_rate(settings, 250) == pytest.approx(0.01 * (1 + math.sqrt(0.5)) / 2)
    assert learning_rate(settings, 999) < 1e-6
    rising = [learning_rate(settings, i) for i in range(100)]
    assert rising == sorted(rising)


@pytest.mark.parametrize(("epochs", "pictures", "batch", "iterations"), [(3, 10, 4, 8), (1, 1, 16, 1), (12, 8, 2, 48)])
def test_epochs_are_so_many_iterations(epochs: int, pictures: int, batch: int, iterations: int) -> None:
    resolved = TrainSettings(epochs=epochs, batch=batch).for_pictures(pictures)
    assert (resolved.iterations, resolved.epochs) == (iterations, None)
    assert resolved == TrainSettings(iterations=iterations, batch=batch)
    assert resolved.for_pictures(99) == resolved


def test_adamw_has_a_rate_of_its_own() -> None:
    own = TrainSettings(optimizer="adamw")
    assert (own.lr_for_16, own.weight_decay) == (1e-4, 0.05)
    given = TrainSettings(optimizer="adamw", lr_for_16=3e-4, weight_decay=0.0)
    assert (given.lr_for_16, given.weight_decay) == (3e-4, 0.0)
    assert (TrainSettings().lr_for_16, TrainSettings().weight_decay) == (0.02, 1e-4)
