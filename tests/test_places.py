"""Projects rebuild where they lie: in folders with any name, and inside larger repositories."""

import shutil
from pathlib import Path

import pytest

import small_project
from small_project import call


@pytest.mark.parametrize("place", ["a 'quoted\" %1;#$HOME", "größer/プロジェクト", "outer/below"])
def test_a_project_rebuilds_in_any_place(place: str, tmp_path: Path) -> None:
    folder = tmp_path / place
    if place != "outer/below":
        folder.parent.mkdir(exist_ok=True)
        small_project.create(folder)
    else:
        small_project.create(tmp_path / "made")
        shutil.rmtree(tmp_path / "made/.git")
        outer = folder.parent
        outer.mkdir()
        call(outer, "git", "init", "--quiet")
        shutil.move(tmp_path / "made", folder)
        (outer / "other.txt").write_text("not of the project\n")
        small_project.commit(outer)
        (folder / "words.txt").write_text("changed words\n")
        call(outer, "git", "add", "below/words.txt")  # a staged change, which git names by its path from the top
    assert small_project.rebuild(folder, "each@a").done.keys() == {"base", "each@a"}
    assert (folder / "each/a.txt").is_file()
    assert small_project.rebuild(folder, "each@a").done == {}
