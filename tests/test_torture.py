"""A rebuild that is killed in everything it does ends as one that nobody disturbed; `make torture` does it longer."""

from pathlib import Path

import torture


def test_killed_in_training_in_writing_and_in_recording(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    torture.create(prepared)
    expected = torture.undisturbed(prepared, tmp_path / "undisturbed")
    assert len(expected) > 5
    killed = torture.torture(prepared, expected, tmp_path / "killed", seed=1)
    assert len(killed) >= 3, killed
