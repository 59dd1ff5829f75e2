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
