"""The README's code runs, its commands, names and links exist, and what it says in short is true."""

import dataclasses
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

from command_line import call
from duvae import cli, config
from duvae.commands import estimate, fetch, prepare, validate
from duvae.commands import run as own_run
from duvae.inference.model import Codes, TrainedModel
from duvae.project import private

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODEL_PAGE = (ROOT / "docs/use-a-model.md").read_text(encoding="utf-8")
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(language: str, page: str = README) -> list[str]:
    """The blocks of code in one language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_snippet_with_the_regularizers_runs() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    torch.manual_seed(1)
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 (the README is a file of this project)
    mean, variance, normalize = names["mean"], names["variance"], names["normalize"]

    assert isinstance(mean, torch.Tensor)
    assert isinstance(variance, torch.Tensor)
    assert torch.allclose(mean.std(0, correction=0), torch.tensor(0.5), atol=1e-3)
    alpha = 1 / (2 * torch.pi * torch.e)
    assert (variance >= alpha - 1e-6).all()
    dropped = (variance - alpha).abs() < 1e-6
    assert 0.1 < dropped.float().mean() < 0.3
    assert torch.isclose(normalize.scale.square().mean(), torch.tensor(0.25))  # type: ignore[attr-defined]


def test_the_regularizers_train_another_vae() -> None:
    """A linear VAE trains with DU-VAE's normalization of the means and dropout on the variances.

    The ELBO rises, and the mean square of the normalization's scales stays gamma squared.
    """
    from duvae.regularizers import MeanBatchNorm, VarianceDropout, VarianceFloor

    torch.manual_seed(1)
    x = torch.randn(256, 4) @ torch.randn(4, 8)
    encode, decode = torch.nn.Linear(8, 4), torch.nn.Linear(2, 8)
    normalize, regularize = MeanBatchNorm(2, 0.7), torch.nn.Sequential(VarianceFloor(), VarianceDropout(0.5))
    parameters = [*encode.parameters(), *decode.parameters(), *normalize.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.01)
    losses = []
    for _ in range(200):
        mean, log_variance = encode(x).chunk(2, -1)
        mean, variance = normalize(mean), regularize(log_variance.exp())
        z = mean + variance.sqrt() * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + variance - 1 - variance.log()).sum(-1)
        loss = (0.5 * (decode(z) - x).square().sum(-1) + kl).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        normalize.rescale_()
        losses.append(loss.item())

    assert losses[-1] < 0.8 * losses[0]
    assert abs(normalize.scale.square().mean().item() - 0.49) < 1e-6


def test_the_recipe_for_your_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's commands work on a table that the test writes; other tests run the stages behind `duvae run`."""
    first, second, third = (line.split("  #")[0].split() for line in own_data_block().splitlines())
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    rows = [f"the {('bad', 'good')[n % 2]} number {n % 31} of {n % 37},{n % 2}" for n in range(800)]
    path = tmp_path / first[2]
    path.parent.mkdir()
    path.write_text("\n".join(["review,label", *rows, "far too long " * 20_000 + ",1"]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "seconds_per_epoch", lambda *_: 1.0)
    jobs = []
    monkeypatch.setattr(
        own_run, "reproduce", lambda folder, _: jobs.extend(config.load(folder / "params.yaml").run_jobs())
    )
    monkeypatch.setattr(own_run, "show", lambda *_: None)
    monkeypatch.setattr(private, "write", written_without_dvc)
    assert call(" ".join(first[1:]), monkeypatch) == 0
    assert call(" ".join(second[1:]), monkeypatch) == 0

    assert [job.name for job in jobs] == ["reviews-vae-1", "reviews-du_vae-1"]
    assert third[1:8] == ["generate", "--dataset", jobs[1].dataset, "--setting", jobs[1].setting, "--seed", "1"]
    monkeypatch.chdir(tmp_path / "private/reviews")
    known = config.load()
    fetch.run(known, "reviews")
    prepared = prepare.run(known, "reviews")
    validate.run(known, "reviews")
    assert prepared.summary["left_out"] == {"train": 1}
    assert sum(len(split) for split in prepared.splits.values()) == 800


def own_data_block() -> str:
    """The first block of commands in the README's section on the user's own data."""
    return README.partition("## Your own data\n")[2].partition("```sh\n")[2].partition("```")[0]


def written_without_dvc(root: Path, name: str, content: dict[str, Any], header: str) -> Path:
    """Writes the params.yaml of a private project, and nothing else."""
    folder = root / private.FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(header + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    return folder


def test_the_names_that_the_use_of_a_model_shows_exist() -> None:
    code = blocks("py", MODEL_PAGE)[0]
    names = {"load": "duvae.inference.model.load", "encode": "duvae.inference.model.TrainedModel.encode"}
    assert all(f"{name}(" in code for name in names)
    for path in names.values():
        pkgutil.resolve_name(path)
    assert {field.name for field in dataclasses.fields(Codes)} >= set(re.findall(r"codes\.(\w+)", code))
    for name in ("generate", "reconstruct", "interpolate", "decode"):
        assert f"`{name}`" in MODEL_PAGE
        assert hasattr(TrainedModel, name)


def headings(path: Path) -> set[str]:
    """The anchors of a page's headings, as git hosts make them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)

    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if not link.startswith("http"):
            path = (ROOT / name).parent / link if link else ROOT / name
            assert path.exists(), link
            assert not anchor or anchor in headings(path), f"{link}#{anchor}"


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist(name: str) -> None:
    """Each target of make and each command of `duvae` in the blocks of a page exists."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    code = "\n".join(blocks("sh", (ROOT / name).read_text(encoding="utf-8")))
    for target in re.findall(r"^make ([a-z-]+)", code, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    known = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"^duvae ([a-z0-9]+(?:-[a-z]+)*)", code, re.MULTILINE)) <= known.keys()


def test_the_readme_is_short_and_its_code_fits_80_columns() -> None:
    """One screen: a figure, a few paragraphs, and tables. The library's example has six lines of code."""
    code = "\n".join(re.findall(r"```\w+\n(.*?)```", README, re.DOTALL))
    assert max(map(len, code.splitlines())) <= 80
    (snippet,) = blocks("python")
    assert len(re.findall(r"^.+$", snippet, re.MULTILINE)) == 6
    prose = re.sub(r"```.*?```|<!-- Begin.*End of the claims. -->|^\|.*$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) < 500


def test_the_badges_are_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = [name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]
    for name, text in (("python", f"Python: {' | '.join(versions)}"), ("licence", f"licence: {project['license']}")):
        assert f"<title>{text}</title>" in (ROOT / f"docs/images/badge-{name}.svg").read_text(encoding="utf-8")
    assert f"[![Python {', '.join(versions)}](docs/images/badge-python.svg)]" in README
    assert f"[![licence: {project['license']}](docs/images/badge-licence.svg)](LICENSE)" in README


def test_every_page_of_docs_is_linked() -> None:
    """A reader finds each page from the README, or from a page to which the README links."""
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert {name for name in PAGES if name.startswith("docs/")} - linked <= {"docs/index.md", "docs/collapse.md"}
