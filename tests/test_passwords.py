"""No message shows the password of a URL, whichever part of the project writes the message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import call
from duvae.errors import UserError, without_passwords
from duvae.project import doctor
from test_doctor import Here, here, sound  # noqa: F401 (fixtures)

users = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
passwords = st.from_regex(r"[a-z@/:?#]{0,5}SECRET[0-9@/]{0,3}", fullmatch=True)


@given(users, passwords, st.sampled_from(["http", "postgresql+psycopg"]))
def test_the_user_and_the_host_stay(user: str, password: str, scheme: str) -> None:
    text = f"{scheme}://{user}:{password}@host:80/x: no server answers (try http://other:81/y)"
    shown = f"{scheme}://{user}@host:80/x: no server answers (try http://other:81/y)"

    assert without_passwords(text) == shown
    assert str(UserError(text)) == shown


@pytest.mark.parametrize(
    "text", ["http://host:80/a@b", "http://host:80 a@b", "name@example.org", "a: b@c", "http://h/x"]
)
def test_other_texts_stay(text: str) -> None:
    assert without_passwords(text) == text


@pytest.mark.parametrize(
    ("variable", "command"),
    [("MLFLOW_TRACKING_URI", "track"), ("DUVAE_MIRROR", "fetch --dataset short_yelp"), ("DUVAE_MIRROR", "doctor")],
)
def test_commands(
    variable: str,
    command: str,
    here: Here,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.5)
    monkeypatch.setenv(variable, "http://name:SECRET@127.0.0.1:9/place")
    call(command, monkeypatch)
    output = "".join(capsys.readouterr())

    assert "http://name@127.0.0.1:9/place" in output
    assert "SECRET" not in output
