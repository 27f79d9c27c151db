"""Writes a project with small parameters and synthetic data, whose trainings save their state after each step."""

from pathlib import Path

from ruamel.yaml import YAML

from duvae import config
from duvae.data import store
from duvae.data.synthetic import prepared_synthetic
from tiny import ROOT, shrink


def write_params(folder: Path, **optimisation: object) -> None:
    """Writes parameters of a reduced size, with which a training saves its state after each step."""
    yaml = YAML()
    raw = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    shrink(raw)
    raw["checkpoint_seconds"] = 0.0
    raw["datasets"]["synthetic"]["optimisation"].update(optimisation)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(raw, file)


def create(folder: Path) -> Path:
    """Writes the parameters and the prepared data into an existing folder, and returns the folder."""
    write_params(folder)
    source = config.load(folder / "params.yaml").datasets["synthetic"].source
    assert isinstance(source, config.SyntheticSource)
    data, arrays = prepared_synthetic(source)
    store.write(folder / "data/prepared/synthetic", data, arrays)
    (folder / "data/validated").mkdir()
    (folder / "data/validated/synthetic.json").write_text("{}")

    return folder
