import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from duvae.errors import UserError
from duvae.inference import model_files
from duvae.metrics.encoding import encode
from duvae.regularizers import Staged
from family import CPU, LATENT, NAMES, batch, describe, documents, lively, same, state, trained, training

everyone = pytest.mark.parametrize("name", NAMES)


def saved(folder: Path, name: str = "vae", **description: Any) -> model_files.Description:
    """Saves a model of a system as a training does; returns its description."""
    said = dataclasses.replace(trained(describe(name)), **description)
    torch.manual_seed(1)
    model, _ = said.build()
    model_files.save(folder, lively(model), said)

    return said


@everyone
def test_a_loaded_model_is_the_one_that_was_saved(name: str, tmp_path: Path) -> None:
    """The loaded model has the same bits, running statistics and started parts included. It is in evaluation mode."""
    run = training(name, epochs=2, warmup=1)
    outcome = run.run()
    said = dataclasses.replace(
        describe(name, dropout_in=0.5, dropout_out=0.5),
        training={
            "epochs": 2,
            "best_epoch": 2,
            "warmup_ended": outcome.warmup_ended,
            "stopped": outcome.stopped,
            "decays": outcome.decays,
            "ending": outcome.ending,
        },
    )
    model_files.save(tmp_path / "m", run.model, said)
    loaded, description = model_files.load(tmp_path / "m")
    one, other = (encode(model, documents(20), CPU, seed=1) for model in (run.model, loaded))

    assert description == said
    assert same(state(run.model), state(loaded))
    assert not loaded.training
    for key, value in vars(one).items():
        assert value is None or np.array_equal(value, getattr(other, key))
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"weights.safetensors", "model.json"}


@everyone
@pytest.mark.parametrize("ended", [False, True, None])
def test_what_waits_for_the_warm_up_has_started_if_it_had_ended(name: str, ended: bool | None, tmp_path: Path) -> None:
    said = describe(name) if ended is None else trained(describe(name), ended)
    model_files.save(tmp_path, said.build()[0], said)
    model, _ = model_files.load(tmp_path)

    assert all(part.started == bool(ended) for part in model.modules() if isinstance(part, Staged))


def test_the_same_model_is_written_in_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        saved(tmp_path / folder, "du_vae")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.999])
def test_weights_cut_short(kept: float, tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])

    with pytest.raises(UserError, match=r"weights\.safetensors: expected .*weights.*Run 'duvae train x' again"):
        model_files.load(tmp_path, "duvae train x")


def test_weights_of_another_system(tmp_path: Path) -> None:
    saved(tmp_path / "vae", "vae")
    saved(tmp_path / "du_vae", "du_vae")
    for one, other in (("vae", "du_vae"), ("du_vae", "vae")):
        mixed = tmp_path / f"{one}-{other}"
        mixed.mkdir()
        (mixed / "model.json").write_bytes((tmp_path / one / "model.json").read_bytes())
        (mixed / "weights.safetensors").write_bytes((tmp_path / other / "weights.safetensors").read_bytes())
        with pytest.raises(
            UserError, match=rf"weights\.safetensors: expected the weights of the {one} that .*of another training, of "
        ):
            model_files.load(mixed)


@pytest.mark.parametrize(
    ("key", "value"), [("words", 13), ("networks", {**describe("vae").networks, "latent": LATENT + 1})]
)
def test_weights_of_another_size(key: str, value: Any, tmp_path: Path) -> None:
    said = saved(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**vars(said), key: value}))

    with pytest.raises(UserError, match=r"weights\.safetensors: expected the weights of the vae .*of another training"):
        model_files.load(tmp_path)


def test_a_tensor_too_many_or_too_few(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "weights.safetensors"
    tensors = load_file(path)
    for changed in ({**tensors, "more": torch.zeros(1)}, {k: v for k, v in tensors.items() if "lstm" not in k}):
        save_file(changed, path)
        with pytest.raises(UserError, match=r"weights\.safetensors.*(is missing|missing is expected|more)"):
            model_files.load(tmp_path)


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.json: not there\. 'duvae train' makes it"):
        model_files.load(tmp_path / "m")
    saved(tmp_path / "m")
    (tmp_path / "m" / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: not there\. 'duvae train' makes it"):
        model_files.load(tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        {"system": "unheard_of"},
        {"surprise": 1},
        {"hyperparameters": {"gamma": 1.0}},
        {"parts": {"init": "neither"}},
        {"networks": {"embedding": 6}},
        {"training": {"epochs": 3}},
    ],
)
def test_a_description_that_is_none(change: dict[str, Any], tmp_path: Path) -> None:
    said = saved(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**vars(said), **change}))

    with pytest.raises(UserError, match=r"(?s)model\.json: expected a model of this version.*Run 'duvae train'"):
        model_files.load(tmp_path)


def test_a_description_that_is_no_json(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.json").write_text("{")

    with pytest.raises(UserError, match=r"model\.json: expected JSON"):
        model_files.load(tmp_path)


def test_the_files_hold_no_code(tmp_path: Path) -> None:
    """`weights.safetensors` holds tensors behind a JSON header; `model.json` holds JSON."""
    said = saved(tmp_path)
    content = (tmp_path / "weights.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    assert set(header) - {"__metadata__"} == set(said.build()[0].state_dict())
    content = json.loads((tmp_path / "model.json").read_text())
    assert content.pop("weights") == model_files.saved_digest(tmp_path)
    assert model_files.Description(**content) == said
    assert model_files.load(tmp_path)[0].posterior(batch()).mean.shape == (6, LATENT)
