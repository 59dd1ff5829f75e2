from dataclasses import replace

from rcnnkit.benchmark.report.markdown import markdown, seconds
from rcnnkit.benchmark.results import Results


def test_markdown_has_every_number(results: Results) -> None:
    text = markdown(results)
    assert "| R-CNN | 5.00 | 5.00 | 0.00 | 0.2 | 300 | 0.500 | 1.50 |" in text  # no AP50 anywhere: no column
    assert "| s / picture | p95 | spread | pictures / s | proposals | AP | peak GB |" in text
    assert "| backbone | 4,000 · 80.0% | 400 · 80.0% | 200 · 80.0% |" in text
    assert "| Fast R-CNN | 0.500 | 2.00 × | 1.83 | 9.24 × | Fast R-CNN, table 4 |" in text
    assert "R-CNN: 10.0% of the time is in no named stage" in text  # more than 3 %
    assert "10 pictures of <digits>, 1 at a time; resnet18, trained, float32. A <CPU> & more, 2 cores, 24 GB" in text
    untrained = replace(results, options=replace(results.options, random=True))
    assert "resnet18, untrained, float32" in markdown(untrained)  # torchvision's has "the same" weights, which are none
    assert "Not complete" not in text
    assert "Not complete (interrupted)" in markdown(replace(results, complete=False, stopped="interrupted"))


def test_digits_that_count() -> None:
    assert [seconds(value) for value in (0.0012345, 0.25, 1.0, 12.345, 123.4, 4700.0)] == [
        "0.00123",
        "0.250",
        "1.00",
        "12.3",
        "123",
        "4,700",
    ]
