"""Messages that claim something about files are true."""

from pathlib import Path

import pytest

from duvae.errors import UserError
from duvae.project import files


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), UserError("x: is wrong.")])
@pytest.mark.parametrize("stays", [True, False])
def test_an_unfinished_file_that_stays_is_named(
    failure: Exception, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that becomes read-only keeps the unfinished file; the message must not deny it."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(path))

    if stays:
        monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError) as caught, files.whole(tmp_path / "a.txt"):
        raise failure
    unfinished = list(tmp_path.iterdir())
    assert len(unfinished) == int(stays)
    assert ("No unfinished file was left behind" in str(caught.value)) == (isinstance(failure, OSError) and not stays)
    assert all(f"The unfinished {path} could not be removed: delete it." in str(caught.value) for path in unfinished)
