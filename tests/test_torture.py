"""A rebuild that is killed in each of its phases gives the outputs of an undisturbed one. See torture.py."""

from pathlib import Path

import torture

TRAININGS = ("train@synthetic-vae-1", "train@synthetic-du_vae-1")


def test_killed_in_training_in_writing_and_in_recording(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    torture.create(prepared)
    expected = torture.undisturbed(prepared, tmp_path / "undisturbed", TRAININGS)
    assert any(path.startswith("models/") for path in expected)
    killed = torture.torture(prepared, expected, tmp_path / "killed", 1, TRAININGS)
    assert len(killed) >= 3, killed
