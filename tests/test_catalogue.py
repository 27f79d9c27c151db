"""`duvae systems` lists all that is built, and only that."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from duvae import config, records
from duvae.commands import systems as stage
from duvae.config import Frozen, Parts
from duvae.objectives import ELBO, Objective
from duvae.records import Record
from duvae.registry import HYPERPARAMETERS, RECORDS
from duvae.regularizers import MeanBatchNorm, VarianceDropout
from duvae.report import catalogue
from duvae.systems import SYSTEMS, System
from family import FULL_SIZE, NAMES, build

everyone = pytest.mark.parametrize("name", NAMES)

TENTHS = (0.3, 0.4, 0.5, 0.6, 0.7)
FREE = (0.1, 0.15, 0.2, 0.25, 0.3)
DU = (0.4, 0.5, 0.6, 0.7), (1.0, 0.9, 0.8, 0.7, 0.6)
SYNTHETIC = (0.5, 0.7, 1.0, 1.2), (0.1, 0.3, 0.5, 0.7)
SUPPLEMENT_E: dict[str, dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]]] = {
    "fb": {"free_bits": (FREE, FREE, ())},
    "iaf_fb": {"free_bits": (FREE, FREE, ())},
    "delta_vae": {"delta": ((0.1, 0.15, 0.2, 0.25), (0.1, 0.15, 0.2, 0.25), ())},
    "bn_vae": {"gamma": (TENTHS, TENTHS, SYNTHETIC[0])},
    "iaf_bn": {"gamma": (TENTHS, TENTHS, ())},
    "mae": {"gamma": ((0.5, 1.0, 2.0), (0.5, 1.0, 2.0), ()), "eta": ((0.2, 0.5, 1.0), (0.2, 0.5, 1.0), ())},
    "du_vae": {"gamma": (DU[0], DU[0], SYNTHETIC[0]), "p": (DU[1], DU[1], SYNTHETIC[1])},
    "du_iaf": {
        "gamma": ((0.5, 0.6, 0.7, 0.8), (0.4, 0.5, 0.6, 0.7), ()),
        "p": ((0.9, 0.8, 0.7), (0.9, 0.85, 0.8, 0.75), ()),
    },
    "bn_vae_fixed_beta": {"beta": ((0.1, 0.3, 0.5, 0.7, 1.0), (), ())},
}
"""The values that the paper chose from, for texts, images and the synthetic data. Those of fixed beta: supplement F."""


def printed(name: str | None = None, params: Any = FULL_SIZE, **console: Any) -> str:
    out = io.StringIO()
    options = {"width": stage.WIDTH, "highlight": False, "emoji": False, "markup": False, **console}
    stage.run(params, name, Console(file=out, **options), full=name is None)

    return out.getvalue()


def listed(width: int, **console: Any) -> list[str]:
    """The lines of `duvae systems`."""
    out = io.StringIO()
    stage.run(FULL_SIZE, console=Console(file=out, width=width, highlight=False, **console))

    return out.getvalue().splitlines()


def words(text: str) -> str:
    """The text without table lines and line breaks."""
    return " ".join(re.sub(r"[|+\-\s]+", " ", text).split())


# -------------------------------------------------------------------------------------- what is known


@everyone
def test_every_hyperparameter_is_documented(name: str) -> None:
    known = catalogue.entry(name, FULL_SIZE)

    assert [h.name for h in known.hyperparameters] == list(HYPERPARAMETERS[name].model_fields)
    for hyperparameter in known.hyperparameters:
        assert hyperparameter.description, f"{name}: {hyperparameter.name} has no description in duvae.config"


@everyone
def test_parts_are_those_of_the_model_that_is_trained(name: str) -> None:
    model, made = build(name)
    known = catalogue.entry(name, FULL_SIZE).parts
    kinds = {part.role: part.name for part in known}
    named = {part.name for part in known if part.role == "regularizer"}

    assert {"posterior", "objective", "schedule", "loop"} <= set(kinds)
    assert kinds["objective"] == type(model.objective).__name__
    assert kinds["loop"] == type(made.loop()).__name__
    for kind in (MeanBatchNorm, VarianceDropout):
        assert (kind.__name__ in named) == any(isinstance(part, kind) for part in model.modules())
    assert all(part.summary for part in known)


def test_the_parts_of_du_vae() -> None:
    found = [(part.role, part.name, part.detail) for part in catalogue.entry("du_vae", FULL_SIZE).parts]

    assert [part for part in found if part[0] != "refinement"] == [
        ("posterior", "DiagonalGaussian", "from GaussianHead"),
        ("regularizer", "MeanBatchNorm", "learns scale and shift"),
        ("regularizer", "VarianceFloor", "once the warm-up has ended"),
        ("regularizer", "VarianceDropout", "once the warm-up has ended"),
        ("objective", "ELBO", ""),
        ("schedule", "Warmup", "KL weight 0 to 1"),
        ("loop", "JointLoop", ""),
    ]


def test_a_new_system_is_found_with_its_own_part_and_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(ELBO):
        r"""$-\log p(x|z)$ of a \mathrm{strange} kind."""

    class New(System[Any]):
        """One that was not there."""

        def objective(self) -> Objective:
            return Strange()

    class Given(Frozen):
        depth: int = 3

    monkeypatch.setitem(SYSTEMS, "new", New)  # type: ignore[arg-type]
    monkeypatch.setitem(HYPERPARAMETERS, "new", Given)  # type: ignore[arg-type]
    monkeypatch.setitem(RECORDS, "new", Record("ηEW-VAE", "strange", "nowhere", "#000000"))  # type: ignore[arg-type]
    setting = config.Setting(system="new", parts=Parts(init="paper"), optimisation={}, columns={"yelp": {}})
    setting = setting.model_copy(update={"columns": {"yelp": Given()}})
    params = FULL_SIZE.model_copy(update={"settings": {**FULL_SIZE.settings, "some": setting}})
    known = catalogue.entry("new", params)

    assert ("objective", "Strange") in [(part.role, part.name) for part in known.parts]
    assert next(part.summary for part in known.parts if part.role == "objective") == "-log p(x|z) of a strange kind."
    assert known.settings == {"some": {"yelp": {"depth": 3}}}
    assert "etaEW-VAE" in printed(params=params)


def test_a_system_without_a_setting_is_listed_without_parts() -> None:
    settings = {key: setting for key, setting in FULL_SIZE.settings.items() if setting.system != "du_vae"}
    params = FULL_SIZE.model_copy(update={"settings": settings})

    assert catalogue.entry("du_vae", params).parts == []
    assert "no setting in params.yaml" in words(printed(params=params))
    assert "No setting in params.yaml has this system." in printed("du_vae", params=params)


# ------------------------------------------------------------------------------------ supplement E


@everyone
def test_the_paper_chose_from(name: str) -> None:
    for key, field in HYPERPARAMETERS[name].model_fields.items():
        text, images, synthetic = SUPPLEMENT_E.get(name, {}).get(key, ((), (), ()))
        found = records.searched(field)

        assert found == records.Searched(text, images, synthetic), f"{name}: {key}"
        for column, values in (("yahoo", text), ("yelp", text), ("omniglot", images), ("synthetic", synthetic)):
            assert found.on(column) == values
        assert found.on("mine") == ()


def test_our_choices_are_among_what_the_paper_chose_from() -> None:
    compared = 0
    for name, setting in FULL_SIZE.settings.items():
        fields = HYPERPARAMETERS[setting.system].model_fields
        for column, values in setting.columns.items():
            for key, value in values.model_dump().items():
                among = records.searched(fields[key]).on(column)
                compared += bool(among)
                assert not among or value in among, (name, column, key)

    assert compared >= 12


# ------------------------------------------------------------------------------------ what is printed


@everyone
def test_the_list_has_every_system_hyperparameter_and_setting(name: str) -> None:
    kind, record, text = SYSTEMS[name], RECORDS[name], printed()
    plain = words(text)

    for said in (name, catalogue.spelled(record.label), record.equation, record.source, catalogue.summary(kind)):
        assert all(word in plain for word in words(said).split()), said
    for key in HYPERPARAMETERS[name].model_fields:
        assert re.search(rf"\| {name} +\| {key} +\|", text)
    for key, setting in FULL_SIZE.settings.items():
        if setting.system == name:
            assert re.search(rf"\| {key} +\| {name} +\|", text)


def test_the_list_has_what_each_column_takes() -> None:
    (row,) = re.findall(r"\| du_vae +\| du_vae +\|(.*)\|\n(.*)", printed())

    assert re.findall(r"gamma ([\d.]+)", row[0]) == ["1", "0.6", "0.5", "0.5"]
    assert re.findall(r"p ([\d.]+)", row[1]) == ["0.5", "0.8", "0.8", "0.9"]


@everyone
def test_one_system_has_its_documentation_whole(name: str) -> None:
    kind, record = SYSTEMS[name], RECORDS[name]
    plain = words(printed(name))

    for said in (kind.__doc__ or "", record.equation, record.source):
        assert words(said) in plain


@pytest.mark.parametrize("width", [120, 80])
@pytest.mark.parametrize("name", [None, *NAMES])
def test_it_fits(name: str | None, width: int) -> None:
    """Tables fit the width. A file gets no colours and only ASCII lines; a terminal gets colours."""
    plain = printed(name, width=width)
    drawn = printed(name, width=width, force_terminal=True)

    assert max(map(len, plain.splitlines())) <= width
    assert plain.isascii()
    assert "\x1b" not in plain
    assert "\x1b[" in drawn
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in drawn.splitlines()) <= width


@pytest.mark.parametrize("width", [120, 80, 60])
def test_the_list_has_one_line_for_each_system(width: int) -> None:
    """Each line begins with a name. The summary is cut between two words, and only where it does not fit."""
    lines, cut = listed(width), set()
    whole = dict(zip(RECORDS, listed(1_000), strict=False))
    labels = 0 if width >= stage.LABELS else max(len(catalogue.spelled(each.label)) for each in RECORDS.values()) + 2

    assert [line.split()[0] for line in lines[: len(RECORDS)]] == list(RECORDS)
    assert max(map(len, lines)) <= width
    assert words(" ".join(lines[len(RECORDS) :])) == words(stage.ADVICE)
    for name, line in zip(RECORDS, lines, strict=False):
        summary = catalogue.summary(SYSTEMS[name])
        assert all(word.rstrip(".") in summary for word in line.split()[-4:])
        cut |= {name} if line.endswith(" ...") else set()
    assert cut == {name for name, line in whole.items() if len(line) - labels > width}
    assert cut
    assert any(catalogue.spelled(RECORDS["beta_vae"].label) in line for line in lines) == (width >= stage.LABELS)


def test_the_list_on_a_terminal_has_the_same_words() -> None:
    drawn = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in listed(80, force_terminal=True)]

    assert drawn == listed(80)


def test_nothing_is_written_twice() -> None:
    """The modules that list systems and parts do not repeat their names."""
    for module in (catalogue, stage):
        source = Path(module.__file__ or "").read_text(encoding="utf-8")
        for name in SYSTEMS:
            assert not re.search(rf"[\"']{name}[\"']", source)
        assert "ELBO" not in source
