"""Defines the columns of the tables that show metrics, and says which columns a table has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duvae.config import Dataset
from duvae.report.per_example import Floor
from duvae.report.results import FLOW_METRIC_KEYS, Array, Result

Gaps = Mapping[str, Sequence[Array]]
"""Differences between the models' NLL and the floor (see `Floor`) in nats, by setting.

A setting has one array per seed, of shape (sentences,).
"""

NOUNS = {"synthetic": "sentence", "text": "sentence"}
"""The word for one example, by the kind of the data set. For a kind that is not listed, the word is "image"."""


@dataclass(frozen=True)
class Metric:
    """A column of the tables.

    Attributes:
        key: The key of the value in `Result.row`.
        label: The heading of the column.
        unit: The unit below the heading; empty: the metric has no unit.
        decimals: Number of decimal places of the values.
        meaning: The meaning of the column in one or two sentences, which the page prints.
    """

    key: str
    label: str
    unit: str
    decimals: int
    meaning: str


METRICS = (
    Metric(
        "nll",
        "NLL",
        "nats",
        2,
        "−log p(x), by importance weighting with {samples} samples each; less is better."
        " In brackets the standard error of the mean over the test examples on which it was measured, with several"
        " seeds the mean of these errors. It is not the error of a difference: see Minus VAE's.",
    ),
    Metric(
        "against",
        "Minus VAE's",
        "nats",
        2,
        "NLL minus that of the VAE, on the same examples and for the same seeds; negative is better. In brackets"
        " half the width of its 95 % confidence interval, for this comparison alone. With one seed, it does not cover"
        " the choice of the seed.",
    ),
    Metric(
        "nll_unseen",
        "NLL, unseen",
        "nats",
        2,
        "NLL of the test examples that do not stand in the training data as well; in brackets its standard error.",
    ),
    Metric(
        "gap",
        "Above floor",
        "nats",
        2,
        "NLL minus the generator's own −log p(x), on the {floor} sentences of the floor;"
        " in brackets the standard error of these paired differences over sentences, averaged over the seeds first."
        " Settings are not ranked by it: it is not the error of their difference. A model also predicts the end of the"
        " sentence, which the generator does not.",
    ),
    Metric(
        "perplexity",
        "PPL",
        "",
        2,
        "exp(total NLL / total number of predicted words), where each end of a sentence counts as a word;"
        " less is better.",
    ),
    Metric("reconstruction", "Recon.", "nats", 2, "−E log p(x|z) under q(z|x): the cost of x given z."),
    Metric(
        "use",
        "Use of z",
        "nats",
        2,
        "log p(x|z) − log p(x|y), where z is a code of x and y that of another example of the same length: 0 when the"
        " decoder ignores z. Since y misleads the decoder, this is not the gain over having no z. In brackets its"
        " standard error.",
    ),
    Metric("kl", "KL", "nats", 2, "KL[q(z|x) ‖ p(z)]: the cost of z; the sum of MI and KL − MI."),
    Metric(
        "mi",
        "MI",
        "nats",
        2,
        "KL[q(z|x) ‖ q(z)]: the information about x in z; 0 when all posteriors are equal, and at most log N for N"
        " examples. An estimate with one sample of z per example, whose error of sampling is not shown.",
    ),
    Metric(
        "kl_minus_mi",
        "KL − MI",
        "nats",
        2,
        "KL[q(z) ‖ p(z)]: the distance of the mean of all posteriors from the prior.",
    ),
    Metric("au", "AU", "dimensions", 1, "Active units: the dimensions whose mean has a variance above {threshold}."),
    Metric(
        "mpd",
        "MPD",
        "nats",
        2,
        "Mutual posterior divergence, the mean over all pairs of posteriors of their symmetric KL: diversity."
        " Equation 3 in the form of its derivation S11, with the −1 inside the sum over dimensions.",
    ),
    Metric("ce", "CE", "nats", 2, "Conditional entropy of z given x: uncertainty."),
    Metric(
        "mpd_t",
        "MPD of zᵀ",
        "nats",
        2,
        "For IAF systems the column MPD is the exact value for z⁰, the start of the chain of flows. This column is an"
        " estimate for zᵀ, the end of the chain; in brackets its standard error.",
    ),
    Metric("ce_t", "CE of zᵀ", "nats", 2, "The same for the conditional entropy."),
)
"""The columns of the tables, one for each metric of a model. `docs/metrics.md` has the equations."""


def noun(dataset: Dataset) -> str:
    """Returns the word for one example of a data set: `sentence` or `image`."""
    return NOUNS.get(dataset.kind, "image")


def shown_metrics(results: Sequence[Result], floor: Floor | None = None, item: str = "sentence") -> list[str]:
    """Returns the keys of the metrics that a table of results shows.

    A metric is left out if no model has it, such as the metrics of flows or those that earlier versions did not
    measure. The difference from the VAE is left out where there is no VAE, or nothing to compare with it.

    Args:
        results: Results of the models of one data set.
        floor: The floor of the NLL (see `Floor`); None: the column `gap`, the model's NLL minus the floor, is left out.
        item: The word for one example of the data set. For "image" the perplexity is left out, because it is a number
            per word.
    """
    omitted = {
        key
        for key in (*FLOW_METRIC_KEYS, "use", "nll_unseen")
        if all(result.metrics.get(key) is None for result in results)
    }
    if not floor:
        omitted.add("gap")
    if item == "image":
        omitted.add("perplexity")
    if not reference(results) or len({result.job.setting for result in results}) < 2:
        omitted.add("against")

    return [metric.key for metric in METRICS if metric.key not in omitted]


def reference(results: Sequence[Result]) -> str | None:
    """Chooses the setting with which the other settings of a data set are compared.

    Args:
        results: Results of the models of one data set.

    Returns:
        The setting `vae`, or else the first setting of the plain VAE; None where there is none.
    """
    settings = [result.job.setting for result in results if result.system == "vae"]

    return "vae" if "vae" in settings else next(iter(settings), None)
