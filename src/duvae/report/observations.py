"""Writes the sentences that say what the results of one data set show, and no more than they show.

Each sentence follows from a rule: the verdict about collapse, the paired comparison of the NLL, the ending of each
training, and the values that a system reaches by construction.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from duvae.metrics import verdict
from duvae.report import convergence
from duvae.report.cells import number, word_list
from duvae.report.comparison import Comparison, absent_text, seeds_text
from duvae.report.metric_columns import Gaps
from duvae.report.per_example import gap_over_seeds
from duvae.report.results import Result, over_seeds, setting_names

NORMALIZED = ("bn_vae", "du_vae")
"""Systems whose Gaussian means have the mean square gamma^2 over each batch, summed over n dimensions: n gamma^2."""

ONE_SEED = "Each of these settings has one seed, so other seeds may differ."
"""The sentence after the lists of collapsed settings, where no setting has several seeds."""

OTHER_BOUNDS = (0.05, 0.2)
"""Bounds in nats that could stand in the place of those of the verdict about collapse, which are a choice of ours."""

NEAR_CEILING = 0.5
"""Distance from log N in nats, within which the estimate of the mutual information is bounded by log N."""


def observations(results: Sequence[Result], comparison: Comparison, latent: int, gaps: Gaps | None = None) -> list[str]:
    """Writes sentences about collapse, NLL, convergence and the limits of the measures.

    Args:
        results: Results of all models of one data set; the sentences give means over the seeds of a setting.
        comparison: The NLL of the single test examples, by which the settings are compared.
        latent: Number of dimensions of z.
        gaps: Distances of the models' NLL from the floor, by setting; None: no sentence about the floor. The floor is
            the NLL under the generator of the synthetic data (see `Floor`).
    """
    return [
        *collapse_lines(results),
        *nll_lines(results, comparison),
        *floor_lines(results, gaps or {}),
        *convergence_lines(results),
        *construction_lines(results, latent),
        *ceiling_lines(results),
    ]


def collapse_lines(results: Sequence[Result]) -> list[str]:
    """Says which settings have collapsed, which have not, and for which the results do not tell.

    A setting without any measure that could tell is left out.
    """
    over = over_seeds(results)
    titles = {
        verdict.COLLAPSED: "Collapsed",
        verdict.NOT_COLLAPSED: "Not collapsed",
        "mixed": "The seeds differ",
        verdict.CANNOT_TELL: "The results cannot tell whether these collapsed",
    }
    groups: dict[str, list[str]] = {key: [] for key in titles}
    for setting, name in setting_names(results).items():
        models = [result for result in results if result.job.setting == setting]
        words = verdict.of_setting([model.metrics for model in models])
        if words is None:
            continue
        kl, mi, mpd, use = (number(over.value(setting, key), 2) for key in ("kl", "mi", "mpd_t", "use"))
        bounds = [f"{metric} {value}" for metric, value in (("KL", kl), ("MPD", mpd)) if value]
        values = [f"use of z {use}" if use else "use of z not measured", *([f"MI {mi}"] if mi else bounds)]
        share = "" if words in groups else f"{words}; "
        groups[words if words in groups else "mixed"].append(f"{name} ({share}{', '.join(values)})")

    lines = [f"{titles[key]}: {word_list(names)}." for key, names in groups.items() if names]
    single = bool(lines) and not (over.seeds > 1).any()

    return [*lines, *([ONE_SEED] if single else []), verdict.RULE, *bound_lines(results)]


def bound_lines(results: Sequence[Result]) -> list[str]:
    """Says which verdicts about collapse would change with the bounds `OTHER_BOUNDS`; empty without any verdict."""
    names, changed, found = setting_names(results), [], False
    for setting, name in names.items():
        metrics = [result.metrics for result in results if result.job.setting == setting]
        words = verdict.of_setting(metrics)
        found = found or words is not None
        for bound in OTHER_BOUNDS:
            other = verdict.of_setting([_scaled(each, verdict.UNUSED / bound) for each in metrics])
            if other != words:
                changed.append(f"{name} with {bound:g} ({other})")
    if not found:
        return []
    start = f"With {' or '.join(f'{bound:g}' for bound in OTHER_BOUNDS)} nats in the place of these bounds,"

    return [f"{start} {'other verdicts: ' + word_list(changed) if changed else 'all verdicts are the same'}."]


def _scaled(metrics: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Multiplies measures in nats by a factor. Comparing the result with a bound divides the bound by the factor."""
    keys = ("mi", "kl", "mpd_t", "use", "use_stderr")

    return {**metrics, **{key: factor * metrics[key] for key in keys if metrics.get(key) is not None}}


def nll_lines(results: Sequence[Result], comparison: Comparison) -> list[str]:
    """Says which setting has the lowest NLL, or which settings cannot be distinguished from it.

    The line names the settings that were compared, and those that were not.
    """
    names = setting_names(results)
    compared = [names[setting] for setting in comparison.settings]
    absent = absent_text(results, comparison)
    if len(compared) + len(comparison.left_out) < 2:
        return []
    if not comparison.best:
        reason = " They have no seed in common." if len(compared) > 1 else ""
        return [f"The NLL of the settings was not compared in pairs.{reason} {absent}".strip()]
    trained = [result for result in results if result.job.setting in comparison.settings]
    count = convergence.count_text(trained)
    more = f" {count}, so more epochs may change the order." if count else ""
    lines = [
        f"Of {word_list(compared)}, {_best_words(comparison, names)}. The confidence is 95 % for all comparisons"
        f" together, {seeds_text(results, comparison)}.{more} {absent}".strip()
    ]
    unseen = comparison.unseen
    if unseen is not None and unseen.best:
        repeated = comparison.examples - unseen.examples
        lines.append(
            f"{repeated:,} of the {comparison.examples:,} test examples also stand in the training data. On the other"
            f" {unseen.examples:,}, {_best_words(unseen, names)}."
        )

    return lines


def _best_words(comparison: Comparison, names: Mapping[str, str]) -> str:
    """Says which of the compared settings has the lowest NLL, or which cannot be distinguished from that one."""
    best = [names[setting] for setting in comparison.best]
    if len(best) == len(comparison.settings):
        return "none can be distinguished from the one with the lowest NLL"
    if len(best) > 1:
        return f"these cannot be distinguished from the one with the lowest NLL: {word_list(best)}"
    this = f"this {best[0]}" if len(comparison.seeds) == 1 else best[0]
    others = len(comparison.settings) - 1

    return f"{this} has the lowest NLL, in paired comparisons with the {others} other{'s' * (others > 1)}"


def floor_lines(results: Sequence[Result], gaps: Gaps) -> list[str]:
    """Says how far the NLL of each setting lies above the floor, with the paired standard error over sentences."""
    names = setting_names(results)
    above, sentences = [], 0
    for setting, seeds in gaps.items():
        if seeds:
            mean, _, error = gap_over_seeds(seeds)
            above.append(f"{names[setting]} {number(mean, 2)} [{number(error, 2)}]")
            sentences = len(seeds[0])
    if not above:
        return []

    return [
        (
            f"Nats above the floor, on its {sentences:,} sentences, with the standard error over them in brackets; not"
            f" for ranking: {word_list(above)}."
        )
    ]


def convergence_lines(results: Sequence[Result]) -> list[str]:
    """Says how the trainings ended; settings whose trainings ended alike share one text."""
    names = setting_names(results)
    groups: dict[frozenset[tuple[str, int]], list[str]] = {}
    endings = {setting: [result.ending for result in results if result.job.setting == setting] for setting in names}
    open_ended = {setting: own for setting, own in endings.items() if not all(each.converged for each in own)}
    if not open_ended:
        return ["All trainings converged: each ended at its last decay, when the validation loss no longer fell."]
    for setting, own in open_ended.items():
        groups.setdefault(frozenset((each.rule, each.decays) for each in own), []).append(setting)
    texts = [
        f"{word_list([names[setting] for setting in members])}"
        f" ({convergence.over_seeds([each for setting in members for each in endings[setting]])})"
        for members in groups.values()
    ]
    if not any(each.converged for own in endings.values() for each in own):
        head = "No training converged. Differences between these models may be differences in the speed of training"
    else:
        head = (
            f"{len(names) - len(open_ended)} of the {len(names)} settings converged with every seed. A difference from"
            " one of the others may be a difference in the speed of training"
        )

    return [f"{head}: {'; '.join(texts)}."]


def construction_lines(results: Sequence[Result], latent: int) -> list[str]:
    r"""Says which KL and which MI batch normalization of the means gives alone, whatever the decoder does.

    Over a batch, the means of these systems have the mean square gamma^2 in each dimension, on average over the
    dimensions. So the KL is at least $n \gamma^2 / 2$ nats. As a reference, Gaussian means of this variance with
    posterior variances of 1 have the mutual information $\frac n2 \log(1 + \gamma^2)$ nats. With a fixed shift beta and
    free scales, the KL is at least $n \beta^2 / 2$ nats.

    Args:
        results: Results of all models of one data set.
        latent: Number n of dimensions of z.
    """
    over = over_seeds(results)
    first = {result.job.setting: result for result in reversed(results)}
    parts = []
    for setting, name in setting_names(results).items():
        result = first[setting]
        values = result.metrics["hyperparameters"]
        kl, mi = (number(over.value(setting, key), 2) for key in ("kl", "mi"))
        if result.system in NORMALIZED and "gamma" in values:
            gamma = float(values["gamma"])
            least = number(latent * gamma**2 / 2, 2)
            gaussian = number(latent / 2 * math.log(1 + gamma**2), 2)
            parts.append(f"{name}: KL at least {least} (measured {kl}), MI {gaussian} (measured {mi})")
        elif result.system == "bn_vae_fixed_beta" and "beta" in values:
            least = number(latent * float(values["beta"]) ** 2 / 2, 2)
            parts.append(f"{name}: KL at least {least} (measured {kl})")
    if not parts:
        return []

    return [
        (
            "Batch normalization of the means alone gives, in nats on the statistics of a batch, a KL of at least nγ²/2"
            " (for a fixed shift nβ²/2), and an MI of n/2 · log(1 + γ²) if the means are Gaussian and the variances 1:"
            f" {'; '.join(parts)}. That MI is a reference and no bound. AU and MPD are raised by construction, too. KL"
            " and MI describe the encoder alone, so they do not show whether the decoder uses z."
        )
    ]


def ceiling_lines(results: Sequence[Result]) -> list[str]:
    """Names the settings whose MI comes near log N, which the estimate from N examples cannot exceed."""
    names = setting_names(results)
    near = {
        names[result.job.setting]: f"{number(result.metrics['mi'], 2)} of at most"
        f" {number(math.log(result.metrics['sentences']), 2)}"
        for result in results
        if result.metrics["mi"] is not None and at_ceiling(result.metrics["mi"], result.metrics["sentences"])
    }
    if not near:
        return []

    return [
        (
            "The estimate of MI is at most log N, so a true MI above that does not show:"
            f" {word_list([f'{name} ({text})' for name, text in near.items()])}."
        )
    ]


def at_ceiling(mi: float, examples: int) -> bool:
    """Whether an estimate of the mutual information is within `NEAR_CEILING` nats of its bound log N.

    Args:
        mi: The estimate in nats.
        examples: Number N of examples from which it was computed.
    """
    return examples > 1 and math.log(examples) - mi < NEAR_CEILING
