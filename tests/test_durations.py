"""Tests the times of trainings that the pages show, for trainings that were resumed, too."""

import pytest

from duvae.project import durations


@pytest.mark.parametrize(
    ("record", "wall", "cpu"),
    [
        ({"wall_seconds": 12.0, "cpu_seconds": 9.0, "seconds_per_epoch": [5.0, 6.0]}, 12.0, 9.0),
        ({"wall_seconds": 4.0, "cpu_seconds": 3.0, "seconds_per_epoch": [5.0, 6.0]}, 11.0, None),
        ({"wall_seconds": 4.0, "cpu_seconds": 3.0}, 4.0, 3.0),
        ({"wall_seconds": 4.0, "cpu_seconds": 3.0, "seconds_per_epoch": None}, 4.0, 3.0),
        ({"wall_seconds": 4.0, "cpu_seconds": 3.0, "seconds_per_epoch": [2.005, 2.005]}, 4.0, 3.0),  # rounded up
    ],
)
def test_the_time_of_a_resumed_training_is_that_of_its_epochs(
    record: dict[str, object], wall: float, cpu: float | None
) -> None:
    assert durations.wall_seconds(record) == wall
    assert durations.cpu_seconds(record) == cpu
    assert durations.resumed(record) == (cpu is None)
