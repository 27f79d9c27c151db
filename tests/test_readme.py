"""What the README shows works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code of one language that the README shows."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_regularizers_in_somebody_elses_vae() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    torch.manual_seed(1)
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 (our own page)
    mean, variance, normalize = names["mean"], names["variance"], names["normalize"]

    assert isinstance(mean, torch.Tensor)
    assert isinstance(variance, torch.Tensor)
    assert torch.allclose(mean.std(0, correction=0), torch.tensor(0.5), atol=1e-3)
    alpha = 1 / (2 * torch.pi * torch.e)
    assert (variance >= alpha - 1e-6).all()
    dropped = (variance - alpha).abs() < 1e-6
    assert 0.1 < dropped.float().mean() < 0.3
    assert torch.isclose(normalize.scale.square().mean(), torch.tensor(0.25))  # type: ignore[attr-defined]


def test_they_train_somebody_elses_vae() -> None:
    """A linear VAE with both regularizers: the ELBO rises and the scales stay where they should."""
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
