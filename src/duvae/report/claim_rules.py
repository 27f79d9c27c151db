"""The claims of sections 4.2 and 4.3 and of supplement F of the paper, each with the rule that decides about it.

A rule turns the results of one data set into a finding. The paper's claims are about Yahoo, Yelp, OMNIGLOT and its
synthetic data; the page says how the size of our experiment differs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from duvae.report.cells import word_list
from duvae.report.checks import NOT_TESTED, Check, Finding, lacking, together, unanimous
from duvae.report.evidence import Evidence, seeds_of
from duvae.report.latent_rules import compact, diverse_and_certain, five_centres, in_the_centre, matches_prior
from duvae.report.names import LONGER, label
from duvae.report.results import Result

CLASSIC = ("vae", "beta_vae", "sa_vae", "agg_vae", "fb", "delta_vae", "bn_vae", "mae")
"""The paper's baselines without a flow that have a likelihood."""

CLASSIC_PROBED = ("ae", "vae", "delta_vae", "agg_vae", "fb", "bn_vae", "mae")
"""The rows of Tables 2 and 3 without a flow, besides DU-VAE."""

FLOWS = ("iaf_fb", "iaf_bn")
"""The paper's baselines with a flow."""

OPTIMA = {"yahoo": (0.6, 0.8), "yelp": (0.5, 0.8), "omniglot": (0.5, 0.9)}
"""The values of gamma and p with the lowest NLL in the paper's Figure 2, by column of data sets."""

KIM = "vae_kim"
"""The setting of the VAE that has the optimisation of SA-VAE on text."""

COSTLY = 2.0
"""Ratio of the time of a training to that of the VAE, from which on a training takes much more time."""

NOT_COSTLY = 1.0
"""Ratio of the time of a training to that of the VAE, up to which a training takes no more time."""

OF_THE_BOUND = 0.9
"""Share of the KL of a fixed shift, n beta^2 / 2, that a KL must have to count as not below it.

The bound holds on the statistics of a batch. In evaluation the running statistics take their place.
"""

ANY = ("synthetic", "text", "image")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        section: The section of the paper.
        text: The claim, in our words.
        kinds: The kinds of data sets that the claim is about: `synthetic`, `text` or `image`.
        rule: Function that decides about the claim from the results of a data set.
        remark: What the rule leaves open, in one sentence; empty: nothing.
    """

    section: str
    text: str
    kinds: Sequence[str]
    rule: Callable[[Evidence], Finding]
    remark: str = ""


# ---------------------------------------------------------------------------------- section 4.2: likelihood


def lowest(system: str, others: Sequence[str]) -> Callable[[Evidence], Finding]:
    """A rule that a system has the lowest NLL, in comparisons with all others together."""
    return lambda evidence: together([evidence.below(system, other, len(others)) for other in others])


def each_below(systems: Sequence[str], other: str) -> Callable[[Evidence], Finding]:
    """A rule that each of some systems has a lower NLL than another one."""
    return lambda evidence: together([evidence.below(system, other, len(systems)) for system in systems])


def refined_below(evidence: Evidence) -> Finding:
    """Agg-VAE and SA-VAE have a lower NLL than the VAE.

    On text, SA-VAE has an optimisation of its own. So it is compared with the VAE that has the same optimisation, if
    that has results. On images, both have the optimisation of the data set.
    """
    checks = [evidence.below("agg_vae", "vae", 2)]
    refined = evidence.setting("sa_vae")
    same = any(result.job.setting == KIM for result in evidence.results)
    if evidence.kind == "image" or refined is None:
        checks.append(evidence.below("sa_vae", "vae", 2))
    elif same:
        check = evidence.lower_setting(refined, KIM, 2)
        checks.append(replace(check, text=f"{check.text}, with the same optimisation") if check.seeds else check)
    else:
        check = evidence.below("sa_vae", "vae", 2)
        checks.append(replace(check, text=f"{check.text}, whose optimisation differs") if check.seeds else check)

    return together(checks)


def costly(evidence: Evidence) -> Finding:
    """The training of Agg-VAE and of SA-VAE takes at least twice the CPU time of the VAE's, with each seed.

    The claim does not hold if no training takes more time than the VAE's. Two trainings are compared only if they ran
    on the same processor with the same number of threads, and for the same number of epochs or until their rules for
    the learning rate ended both. Epochs alone cannot be compared: those in which Agg-VAE takes inner steps come first.
    """
    return together([_cost(evidence, system) for system in ("agg_vae", "sa_vae")])


def _cost(evidence: Evidence, system: str) -> Check:
    """Compares the time of a system's trainings with that of the VAE's. See `costly`."""
    missing = evidence.without_results(system, "vae")
    if missing:
        return missing
    models, plain = evidence.models(system), evidence.models("vae")
    timed = [
        (models[seed], plain[seed])
        for seed in sorted(set(models) & set(plain))
        if math.isfinite(cpu_seconds(models[seed])) and cpu_seconds(plain[seed]) > 0
    ]
    if not timed:
        of = {system: models, "vae": plain}
        unknown = [each for each in of if not any(math.isfinite(cpu_seconds(model)) for model in of[each].values())]
        return lacking("no CPU time of a whole training of", [evidence.name(each) for each in unknown or of])
    alike = [
        (model, vae) for model, vae in timed if processor(model) is not None and processor(model) == processor(vae)
    ]
    if not alike:
        text = f"{evidence.name(system)} and {evidence.name('vae')} were not trained on the same processor and threads"
        return Check(None, text, len(timed))
    alike = [
        (model, vae)
        for model, vae in alike
        if model.metrics["epochs"] == vae.metrics["epochs"] or ("epochs" not in (model.ending.rule, vae.ending.rule))
    ]
    if not alike:
        text = f"{evidence.name(system)} and {evidence.name('vae')} were trained for different numbers of epochs"
        return Check(None, text, len(timed))
    ratios = [cpu_seconds(model) / cpu_seconds(vae) for model, vae in alike]
    outcomes = [True if ratio >= COSTLY else False if ratio <= NOT_COSTLY else None for ratio in ratios]
    text = f"the training of {evidence.name(system)} takes {np.mean(ratios):.1f} times that of {evidence.name('vae')}"

    return unanimous(outcomes, f"{text}; at least twice", len(ratios))


def processor(result: Result) -> tuple[str, int] | None:
    """The processor and the number of threads of a training; None where they are not known."""
    record = result.provenance.get("train", {})
    name, threads = (record.get("machine") or {}).get("processor"), record.get("threads")

    return (str(name), int(threads)) if name and threads else None


def cpu_seconds(result: Result) -> float:
    """The CPU time of the training in seconds; NaN where it is not known, as for a training that was resumed."""
    return float(result.row["train_cpu"])


def more_information(evidence: Evidence) -> Finding:
    """DU-VAE has a greater KL and MI than BN-VAE with the same gamma."""
    pair = [next(iter(evidence.models(system).values()), None) for system in ("du_vae", "bn_vae")]
    gammas = {result.metrics["hyperparameters"].get("gamma") for result in pair if result}
    if None in pair or len(gammas) != 1:
        return Finding(NOT_TESTED, "no DU-VAE and BN-VAE with the same γ", 0)

    return together(
        [
            evidence.greater("du_vae", "bn_vae", lambda result: result.metrics["kl"], "KL", 2),
            evidence.greater("du_vae", "bn_vae", lambda result: result.metrics["mi"], "MI", 2),
        ]
    )


def state(system: str, collapsed: bool) -> Callable[[Evidence], Finding]:
    """A rule that all models of a system have collapsed, or that none has."""
    return lambda evidence: together([evidence.state(system, collapsed)])


def paper_optimum(evidence: Evidence) -> Finding:
    """Among the 20 settings of the paper's Figure 2, the one that the paper names has the lowest NLL.

    With fewer of these settings, the claim is not tested.
    """
    column = next((result.job.column for result in evidence.results), "")
    grid: dict[tuple[float, float], str] = {}
    for result in evidence.results:
        values = result.metrics["hyperparameters"]
        if result.job.setting.endswith(LONGER):
            continue
        if result.system == "du_vae" and {"gamma", "p"} <= set(values):
            grid[float(values["gamma"]), float(values["p"])] = result.job.setting
    wanted = {(gamma, p) for gamma in (0.4, 0.5, 0.6, 0.7) for p in (1.0, 0.9, 0.8, 0.7, 0.6)}
    if column not in OPTIMA or not wanted <= set(grid):
        return Finding(NOT_TESTED, "no results of all 20 settings", 0)
    own = grid[OPTIMA[column]]
    others = [grid[point] for point in sorted(wanted) if grid[point] != own]

    return together([evidence.lower_setting(own, other, len(others)) for other in others])


# ---------------------------------------------------------------------------------- section 4.2: classification


def most_accurate(system: str, others: Sequence[str]) -> Callable[[Evidence], Finding]:
    """A rule that a system's probes are more accurate than those of all others, at each number of labels."""
    return lambda evidence: together([evidence.more_accurate(system, other, len(others)) for other in others])


def more_accurate(pairs: Sequence[tuple[str, str]]) -> Callable[[Evidence], Finding]:
    """A rule that the first system of each pair has more accurate probes than the second, at each number of labels."""
    return lambda evidence: together([evidence.more_accurate(first, second, len(pairs)) for first, second in pairs])


# ---------------------------------------------------------------------------------- supplement F


def fixed_shift(evidence: Evidence) -> Finding:
    """With a fixed shift beta, the KL is not below n beta^2 / 2, and yet all models have collapsed.

    The mean of the means alone gives this KL. `OF_THE_BOUND` says how much of it is enough.
    """
    system = "bn_vae_fixed_beta"
    models = [result for result in evidence.results if result.system == system]
    if not models:
        return Finding(NOT_TESTED, f"no results of {label(system)}", 0)
    bounds: dict[float, list[float]] = {}
    for model in models:
        bounds.setdefault(float(model.metrics["hyperparameters"]["beta"]), []).append(float(model.metrics["kl"]))
    texts, outcomes = [], []
    for beta, values in sorted(bounds.items()):
        bound = OF_THE_BOUND * evidence.latent * beta**2 / 2
        outcomes += [value >= bound for value in values]
        texts.append(f"{min(values):.3f} for β {beta:g} (bound {bound:.3f})")
    text = f"least KL in nats: {word_list(texts)}"
    positive = unanimous(outcomes, text, seeds_of(models), **evidence.endings_of(models))

    return together([evidence.state_of(models, True, label(system)), positive])


OTHER_VALUES = "Hyperparameters or initial weights differ, too, so this is not the effect of the flow alone."
"""The remark on every claim that compares a system with a flow and one without."""

CLAIMS = (
    Claim("4.2", "DU-VAE has the lowest NLL among the systems without a flow.", ANY, lowest("du_vae", CLASSIC)),
    Claim("4.2", "DU-IAF has the lowest NLL among the systems with a flow.", ANY, lowest("du_iaf", FLOWS)),
    Claim("4.2", "MAE does not perform well: its NLL is above the VAE's.", ANY, each_below(("vae",), "mae")),
    Claim("4.2", "Agg-VAE and SA-VAE have a lower NLL than the VAE.", ANY, refined_below),
    Claim("4.2", "Agg-VAE and SA-VAE take much more time to train.", ANY, costly),
    Claim(
        "4.2",
        "BN-VAE is competitive on text: its NLL is below the VAE's.",
        ("text", "synthetic"),
        each_below(("bn_vae",), "vae"),
    ),
    Claim("4.2", "On images, BN-VAE has a higher NLL than the VAE.", ("image",), each_below(("vae",), "bn_vae")),
    Claim("4.2", "DU-VAE has more KL and MI than BN-VAE with the same γ.", ANY, more_information),
    Claim("4.2", "IAF+BN collapses.", ANY, state("iaf_bn", True)),
    Claim("4.2", "DU-IAF does not collapse.", ANY, state("du_iaf", False)),
    Claim(
        "4.2",
        "On images, IAF+FB has a lower NLL than FB.",
        ("image",),
        each_below(("iaf_fb",), "fb"),
        f"The paper: IAF models are more suitable for images. {OTHER_VALUES}",
    ),
    Claim(
        "4.2",
        "On text, FB has a lower NLL than IAF+FB.",
        ("text", "synthetic"),
        each_below(("fb",), "iaf_fb"),
        "The paper: IAF models are without sound performance on text; its NLL are 328.1 and 328.4 on Yahoo, and both"
        f" 357.1 on Yelp. {OTHER_VALUES}",
    ),
    Claim(
        "4.2",
        "DU-VAE has the most accurate probes among the systems without a flow.",
        ANY,
        most_accurate("du_vae", CLASSIC_PROBED),
    ),
    Claim(
        "4.2", "DU-IAF has the most accurate probes among the systems with a flow.", ANY, most_accurate("du_iaf", FLOWS)
    ),
    Claim(
        "4.2",
        "Agg-VAE and BN-VAE classify text better than the VAE.",
        ("text", "synthetic"),
        more_accurate((("agg_vae", "vae"), ("bn_vae", "vae"))),
    ),
    Claim(
        "4.2",
        "Agg-VAE and BN-VAE classify images worse than AE.",
        ("image",),
        more_accurate((("ae", "agg_vae"), ("ae", "bn_vae"))),
    ),
    Claim(
        "4.2",
        "δ-VAE and MAE classify images better than the VAE.",
        ("image",),
        more_accurate((("delta_vae", "vae"), ("mae", "vae"))),
    ),
    Claim(
        "4.2",
        "δ-VAE and MAE classify text worse than the VAE.",
        ("text", "synthetic"),
        more_accurate((("vae", "delta_vae"), ("vae", "mae"))),
    ),
    Claim(
        "4.2",
        "IAF+FB and DU-IAF have more accurate probes than FB and DU-VAE.",
        ANY,
        more_accurate((("iaf_fb", "fb"), ("du_iaf", "du_vae"))),
        f"The probes of a flow read twice as many features. {OTHER_VALUES}",
    ),
    Claim(
        "4.2",
        "On images, IAF+BN has less accurate probes than the VAE.",
        ("image",),
        more_accurate((("vae", "iaf_bn"),)),
    ),
    Claim(
        "4.2", "Figure 2: the paper's γ and p have the lowest NLL of the 20 pairs.", ("text", "image"), paper_optimum
    ),
    Claim("4.3", "The VAE collapses on the synthetic data.", ("synthetic",), state("vae", True)),
    Claim("4.3", "The VAE's aggregated posterior matches the prior.", ("synthetic",), matches_prior),
    Claim(
        "4.3",
        "Agg-VAE, BN-VAE and DU-VAE put the central component between the four others.",
        ("synthetic",),
        in_the_centre(("agg_vae", "bn_vae", "du_vae")),
    ),
    Claim("4.3", "Only the aggregated posterior of DU-VAE has five centres.", ("synthetic",), five_centres),
    Claim(
        "4.3",
        "The aggregated posterior is more compact than the prior for DU-VAE, and broader for BN-VAE.",
        ("synthetic",),
        compact,
    ),
    Claim(
        "4.3",
        "DU-VAE's latent space is more diverse (MPD) and less uncertain (CE) than VAE's and BN-VAE's.",
        ("synthetic",),
        diverse_and_certain,
    ),
    Claim("F", "With a fixed shift β, the KL stays positive, but the posterior collapses.", ANY, fixed_shift),
)
"""The claims, in the order of the paper."""
