"""docs/which-setting.md has the numbers of the results, chosen by rules."""

import json
import math
import re
from pathlib import Path

import pytest

import made_up
from duvae.commands import claims as command
from duvae.errors import UserError
from duvae.metrics.verdict import COLLAPSED, NOT_COLLAPSED
from duvae.report import claims, which_setting
from duvae.report.which_setting import BEGIN, END
from test_paper_claims import model

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with results of a collapsed VAE, a DU-VAE and an AE, and with both pages."""
    params = made_up.params(settings=["vae", "du_vae", "ae"], seeds=[1, 2])
    made_up.project(tmp_path, params, params.run_jobs())
    (tmp_path / "README.md").write_text(f"{claims.BEGIN}\n{claims.END}\n", encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/which-setting.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")

    return tmp_path


def written(project: Path) -> str:
    command.run(made_up.params(settings=["vae", "du_vae", "ae"], seeds=[1, 2]), root=project)

    return (project / "docs/which-setting.md").read_text(encoding="utf-8")


def tables(page: str) -> list[list[list[str]]]:
    """The cells of each table of a page, without the headings."""
    parts = re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE)

    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()[2:]] for part in parts]


def mean(project: Path, setting: str, file: str, *keys: str) -> float:
    values = []
    for seed in (1, 2):
        content = json.loads((project / f"results/synthetic/{setting}/{seed}/{file}.json").read_text())
        for key in keys:
            content = content[key]
        values.append(content)

    return sum(values) / 2


def test_the_numbers_are_those_of_the_files(project: Path) -> None:
    page = written(project)
    likelihood, probes, construction = tables(page)

    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")
    assert "old" not in page.splitlines()
    assert [row[1] for row in likelihood] == ["VAE", "DU-VAE"]  # an AE has no NLL
    assert [row[-1] for row in likelihood] == [COLLAPSED, NOT_COLLAPSED]
    for row, setting in zip(likelihood, ("vae", "du_vae"), strict=True):
        for cell, key in ((row[2].split()[0], "nll"), (row[3], "kl"), (row[4], "mi"), (row[5].split()[0], "use")):
            value = mean(project, setting, "metrics", key)
            assert float(cell.replace("−", "-")) == pytest.approx(value, abs=0.006), key
    ((data, count, fallen, largest, other),) = probes
    most = mean(project, "vae", "probe", "by_labels", "10000", "accuracy")
    best = {name: mean(project, name, "probe", "by_labels", "10000", "accuracy") for name in ("du_vae", "ae")}
    assert (data, count, fallen) == ("`synthetic`, 10,000 labels", "1", f"VAE: {most:.1f}")
    assert largest == f"{mean(project, 'vae', 'probe', 'largest_class'):.1f}"
    assert other.partition(": ")[2] == f"{max(best.values()):.1f}"
    (row,) = construction
    gamma, latent = float(row[2]), int(row[3])
    assert float(row[4]) == pytest.approx(latent * gamma**2 / 2, abs=0.006)
    assert float(row[6]) == pytest.approx(latent / 2 * math.log(1 + gamma**2), abs=0.006)


def test_a_page_that_is_out_of_date_is_an_error(project: Path) -> None:
    params = made_up.params(settings=["vae", "du_vae", "ae"], seeds=[1, 2])
    page = project / "docs/which-setting.md"
    written(project)
    command.run(params, check=True, root=project)
    page.write_text(page.read_text(encoding="utf-8").replace("| VAE |", "| VAE! |"), encoding="utf-8")
    with pytest.raises(UserError, match=r"which-setting\.md: the tables are not those of today's results\. Run 'duvae"):
        command.run(params, check=True, root=project)
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(UserError, match="expected the lines"):
        command.run(params, root=project)
    assert page.read_text(encoding="utf-8") == "nothing\n"


def test_the_links_of_the_page_lead_somewhere() -> None:
    for name in ("which-setting.md", "metrics-library.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for link, anchor in re.findall(r"\]\((?!https://)([^)#]*)(?:#([^)]+))?\)", text):
            path = (ROOT / "docs" / link).resolve() if link else ROOT / "docs" / name
            assert path.exists(), link
            if anchor:
                heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, anchor


def test_outside_the_generated_tables_the_page_has_no_result() -> None:
    """Numbers with two decimals, or in percent, would be results that no rule keeps up to date."""
    text = (ROOT / "docs/which-setting.md").read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)

    assert begin
    assert end
    assert not re.findall(r"\d+\.\d\d|\d ?%", before + after)
    assert which_setting.with_block(text, BEGIN, END, "x") == f"{before}x{after}"


def test_settings_that_did_not_converge_are_marked() -> None:
    params = made_up.params(settings=["vae", "fb"], seeds=[1])
    models = [model("vae", 1), model("fb", 1, ending="epochs")]
    page = which_setting.block(params, {"synthetic": models})
    assert "| FB‡ |" in page
    assert "also stand in the training data" not in page
    assert "| VAE |" in page
    assert "‡: a training ended at its limit of epochs" in page
    assert "‡" not in which_setting.block(params, {"synthetic": models[:1]})


def test_test_examples_of_the_training_data_are_counted() -> None:
    params = made_up.params(settings=["vae"], seeds=[1])
    page = which_setting.block(params, {"synthetic": [model("vae", 1, unseen=150), model("fb", 1)]})
    assert "Test examples that also stand in the training data: 50 of 200 (`synthetic`)." in page
