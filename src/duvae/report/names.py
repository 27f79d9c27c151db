"""The systems and their hyperparameters as the paper writes them, in the order of its Table 1."""

import math
from collections.abc import Mapping
from typing import Any

NAMES: Mapping[str, str] = {
    "ae": "AE",
    "vae": "VAE",
    "beta_vae": "β-VAE",
    "sa_vae": "SA-VAE",
    "agg_vae": "Agg-VAE",
    "fb": "FB",
    "delta_vae": "δ-VAE",
    "bn_vae": "BN-VAE",
    "mae": "MAE",
    "du_vae": "DU-VAE",
    "iaf_fb": "IAF+FB",
    "iaf_bn": "IAF+BN",
    "du_iaf": "DU-IAF",
    "bn_vae_fixed_beta": "BN-VAE, fixed β",
}
"""The systems as the paper spells them: AE, which only its Tables 2 and 3 have, then Table 1's rows, then S1's."""

LETTERS: Mapping[str, str] = {"gamma": "γ", "beta": "β", "delta": "δ", "eta": "η", "lambda": "λ"}

BRACKETS: Mapping[str, tuple[str, ...]] = {
    "beta_vae": ("beta",),
    "fb": ("lambda",),
    "delta_vae": ("delta",),
    "bn_vae": ("gamma",),
    "mae": ("gamma", "eta"),
    "du_vae": ("gamma", "p"),
    "iaf_fb": ("lambda",),
    "iaf_bn": ("gamma",),
    "du_iaf": ("gamma", "p"),
    "bn_vae_fixed_beta": ("beta",),
}
"""The hyperparameters that the paper's tables give in brackets after a system, in their order there."""


def rank(system: str) -> int:
    """A system's place in the order of NAMES; unknown ones come last."""
    return list(NAMES).index(system) if system in NAMES else len(NAMES)


def letters(hyperparameters: Mapping[str, Any]) -> dict[str, float]:
    """The hyperparameters that are one letter in the paper, by that letter's name: `gamma`, `p`, ..., `lambda`."""
    named = {"lambda" if key == "free_bits" else key: value for key, value in hyperparameters.items()}

    return {key: float(value) for key, value in named.items() if key in LETTERS or len(key) == 1}


def written(values: Mapping[str, float]) -> str:
    """`γ 1, p 0.5`."""
    return ", ".join(f"{LETTERS.get(key, key)} {value:g}" for key, value in values.items())


def same(system: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> bool:
    """Whether two settings of a system agree in what the paper's brackets give."""
    keys = BRACKETS.get(system, ())

    return all(key in ours and key in theirs and math.isclose(ours[key], theirs[key], abs_tol=1e-9) for key in keys)
