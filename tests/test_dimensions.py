"""Measures of each single dimension of z."""

import numpy as np
import pytest
import torch

from duvae.metrics.dimensions import dimension_measures
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import active_units, measures
from family import CPU, LATENT, NAMES, batch, build, documents, lively

everyone = pytest.mark.parametrize("name", NAMES)


@everyone
def test_dimensions_add_up_to_the_measures_of_the_whole(name: str) -> None:
    """The KL of the dimensions adds up to the KL. The variances of the means give AU at any threshold."""
    model, split = lively(build(name)[0]), documents(23)
    model.start()
    posterior = model.eval().posterior(batch())
    encoded = encode(model, split, CPU, seed=1)
    found = dimension_measures(model, split, encoded, CPU, seed=1)
    kl, variances = found["kl_by_dimension"], found["mean_variances"]

    assert (kl is not None) == posterior.density
    assert (variances is not None) == ("au" in posterior.measured)
    if kl is not None:
        assert len(kl) == LATENT
        assert sum(kl) == pytest.approx(measures(encoded, 0.01)["kl"], rel=1e-5)
        assert max(kl) > 1.01 * min(kl)
    if variances is not None:
        for threshold in (0.0, np.median(variances), 100.0):
            assert sum(value > threshold for value in variances) == active_units(encoded.mean, float(threshold))


@everyone
def test_dimensions_stand_in_the_order_of_the_posterior(name: str) -> None:
    """The KL of each dimension is that of the posteriors of single sentences, with the sample that `encode` drew."""
    model, split = lively(build(name)[0]), documents(11)
    model.start()
    encoded = encode(model, split, CPU, seed=1)
    found = dimension_measures(model, split, encoded, CPU, seed=1)
    if found["kl_by_dimension"] is None:
        assert not encoded.density
        return
    model.eval()
    rows = []
    for index in range(len(split)):
        with torch.no_grad():
            posterior = model.posterior(torch.from_numpy(split.batch(np.array([index]))))
        if not posterior.transformed:
            mean, variance = (value[0].double().numpy() for value in (posterior.mean, posterior.variance))
            rows.append(0.5 * (mean**2 + variance - 1 - np.log(variance)))
            continue
        z = torch.from_numpy(encoded.z[index : index + 1])
        with torch.no_grad():
            start, log_sigma = posterior.chain.inverse(z, posterior.context)
        density = torch.distributions.Normal(posterior.mean, posterior.variance.sqrt()).log_prob(start) - log_sigma
        rows.append((density - torch.distributions.Normal(0.0, 1.0).log_prob(z))[0].detach().numpy())

    np.testing.assert_allclose(found["kl_by_dimension"], np.mean(rows, axis=0), rtol=1e-3, atol=1e-4)


def test_hand_values_of_one_dimension() -> None:
    """Means of 1 and -1 and a variance of e^-1 in each dimension: the KL is (1 + 1/e - 1 + 1) / 2 in each."""
    model, split = build("vae")[0], documents(2, (5,))
    encoded = encode(model, split, CPU, seed=1)
    changed = type(encoded)(
        **{
            **vars(encoded),
            "mean": np.array([[1.0, 0.0, 3.0], [-1.0, 0.0, 3.0]], np.float32),
            "variance": np.full((2, 3), np.exp(-1), np.float32),
        }
    )
    found = dimension_measures(model, split, changed, CPU, seed=1)

    np.testing.assert_allclose(found["kl_by_dimension"], [0.5 * (m**2 + np.exp(-1)) for m in (1, 0, 3)], rtol=1e-6)
    assert found["mean_variances"] == [1.0, 0.0, 0.0]


def test_one_example_has_no_variance() -> None:
    model, split = build("vae")[0], documents(1)
    found = dimension_measures(model, split, encode(model, split, CPU, seed=1), CPU, seed=1)

    assert found["mean_variances"] is None
    assert found["kl_by_dimension"] is not None
