"""The README's code runs, and its commands, names and links exist."""

import dataclasses
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from command_line import call
from duvae import config
from duvae.commands import estimate, fetch, prepare, validate
from duvae.commands import run as own_run
from duvae.inference.model import Codes, TrainedModel
from duvae.project import private

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's blocks of code in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


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
    (code,) = blocks("py")
    names = {"load": "duvae.inference.model.load", "encode": "duvae.inference.model.TrainedModel.encode"}
    assert all(f"{name}(" in code for name in names)
    for path in names.values():
        pkgutil.resolve_name(path)
    assert {field.name for field in dataclasses.fields(Codes)} >= set(re.findall(r"codes\.(\w+)", code))
    for name in ("generate", "reconstruct", "interpolate", "decode"):
        assert f"`{name}`" in README
        assert hasattr(TrainedModel, name)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", "\n".join(blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in set(re.findall(r"^duvae ([a-z0-9]+)", "\n".join(blocks("sh")), re.MULTILINE)):
        done = subprocess.run([sys.executable, "-m", "duvae", command, "--help"], capture_output=True, check=False)
        assert done.returncode == 0, command
