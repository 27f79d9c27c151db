"""Computes the scoreboard of the page of all results: one row per data set with what its results say in short.

The scoreboard says no more than the sections of the data sets. A setting is called the one with the lowest NLL only if
`Comparison.best` has it alone, and every row begins with the number of seeds and the size of the experiment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duvae.config import AnyDataset, OmniglotSource, SyntheticDataset, is_own
from duvae.metrics import verdict
from duvae.report import convergence, paper
from duvae.report.cells import number, number_range, word_list
from duvae.report.comparison import Comparison, enough_decimals
from duvae.report.evidence import LIMITS, Evidence
from duvae.report.metric_columns import noun, reference
from duvae.report.results import Result, label_counts, label_unit, over_seeds, setting_names

TRAINING_SIZES = {"yahoo": 100_000, "yelp": 100_000, "synthetic": 16_000}
"""Number of training examples in the paper, by column of data sets. Short Yelp has as many as Yelp."""

SHOWN = ("vae", "du_vae")
"""The systems whose numbers stand for a data set where its settings were not compared in pairs."""

MOST_NAMED = 3
"""Largest number of settings with the lowest NLL that a row names with their numbers."""


@dataclass(frozen=True)
class Score:
    """A row of the scoreboard.

    Attributes:
        dataset: Name of the data set in params.yaml.
        badge: The number of seeds and the size of the experiment, in a few words each.
        states: The names of the settings that have collapsed, have not, or for which the results do not tell, by these
            words. The sign ‡ follows the name of a setting with a training that did not converge.
        nll: The lowest NLL and its difference from the VAE's; None: there is no NLL.
        probe: The highest accuracy of a probe; None: there are no probes.
        paper: The differences from the paper's numbers; empty: this is not the paper's experiment, or has none.
    """

    dataset: str
    badge: Sequence[str]
    states: Mapping[str, Sequence[str]]
    nll: str | None
    probe: str | None
    paper: Sequence[str]


def score(dataset: AnyDataset, evidence: Evidence, earlier: Sequence[str] = (), same_limit: bool = True) -> Score:
    """Computes the row of one data set.

    Args:
        dataset: The data set's parameters in params.yaml.
        evidence: The results of the data set.
        earlier: Sentences about results of earlier parameters or code; empty: there are none.
        same_limit: Whether the trainings had the limit of epochs in params.yaml.
    """
    results = evidence.results
    more = ["partly of earlier code or parameters"] if earlier else []
    if not any("train" in result.provenance for result in results):
        more = ["of an earlier version, commit unknown"]

    return Score(
        evidence.dataset,
        [*badge(dataset, evidence, same_limit), *more],
        states(results),
        nll_text(results, evidence.comparison),
        probe_text(results),
        gaps(dataset, results),
    )


def badge(dataset: AnyDataset, evidence: Evidence, same_limit: bool = True) -> list[str]:
    """Says in a few words each how many seeds an experiment has, and how its size compares with the paper's.

    Args:
        dataset: The data set's parameters in params.yaml.
        evidence: The results of the data set.
        same_limit: Whether the trainings had the limit of epochs in params.yaml. If not, the words name the epochs of
            the trainings.
    """
    seeds = [int(count) for count in over_seeds(evidence.results).seeds]
    parts = [
        f"{number_range(seeds)} seed{'s' if max(seeds) > 1 else ''}",
        f"{len(seeds)} setting{'s' if len(seeds) > 1 else ''}",
    ]
    if is_own(dataset):
        return [*parts, "your own data"]
    count, theirs = training_size(dataset, evidence), TRAINING_SIZES.get(dataset.column)
    if isinstance(dataset.source, OmniglotSource):
        alphabets = len(dataset.source.alphabets)
        parts += [f"{alphabets} of 50 alphabets"] if alphabets else []
    elif count and theirs:
        parts.append(
            f"{count:,} training {noun(dataset)}s, as many as the paper"
            if count == theirs
            else f"{number(100 * count / theirs, 0)} % of the paper's training {noun(dataset)}s"
        )
    limit = dataset.optimisation.epochs
    if not same_limit:
        parts.append(f"{number_range([result.metrics['epochs'] for result in evidence.results])} epochs")
    elif limit < LIMITS[evidence.kind]:
        parts.append(f"{limit} of {LIMITS[evidence.kind]} epochs")
    if evidence.departs is not None:
        parts.append("not the paper's experiment" if evidence.departs else "the paper's experiment")
    elif evidence.kind == "synthetic":
        parts.append("data of our own generator, after the paper's")

    return parts


def training_size(dataset: AnyDataset, evidence: Evidence) -> int | None:
    """The number of training examples, from the results or from params.yaml; None where neither has it."""
    if evidence.train is not None:
        return evidence.train
    if isinstance(dataset, SyntheticDataset):
        return dataset.source.training
    sample = getattr(dataset.source, "sample", None)

    return None if sample is None else int(sample.size)


def states(results: Sequence[Result]) -> dict[str, list[str]]:
    """Groups the names of settings by whether their latent spaces have collapsed.

    Settings without any measure that could tell are left out.

    Returns:
        The names by `collapsed`, `not collapsed`, `cannot tell`, or `seeds differ`.
    """
    groups: dict[str, list[str]] = {
        word: [] for word in (verdict.COLLAPSED, verdict.NOT_COLLAPSED, "seeds differ", verdict.CANNOT_TELL)
    }
    for setting, name in setting_names(results).items():
        models = [result for result in results if result.job.setting == setting]
        words = verdict.of_setting([model.metrics for model in models])
        if words is not None:
            groups[words if words in groups else "seeds differ"].append(f"{name}{convergence.mark(models)}")

    return {word: names for word, names in groups.items() if names}


def nll_text(results: Sequence[Result], comparison: Comparison) -> str | None:
    """Names the setting with the lowest NLL, with its paired difference from the VAE's, as far as the results say so.

    Args:
        results: Results of all models of one data set.
        comparison: The NLL of the single test examples.

    Returns:
        A text such as `DU-VAE 29.06, minus VAE's −0.43 [0.12]: lowest of 5 compared (12 have an NLL)`. If the test
        examples that are not in the training data give another answer, the text says so. Without values of single
        examples, the text has the NLL of the systems in `SHOWN` with their standard errors. None if no model has an
        NLL.
    """
    names, over = setting_names(results), over_seeds(results)

    def value(setting: str, with_error: bool = False) -> str:
        error = number(over.value(setting, "nll_stderr"), 2) if with_error else None
        mark = convergence.mark([result for result in results if result.job.setting == setting])

        return f"{names[setting]} {number(over.value(setting, 'nll'), 2)}{mark}{f' [{error}]' if error else ''}"

    measured = {result.job.setting: result.system for result in results if result.metrics["nll"] is not None}
    if not measured:
        return None
    best = comparison.best
    if not best or comparison.left_out:
        shown = [setting for setting in measured if setting in SHOWN] or list(measured)[:1]
        more = "" if len(measured) < 2 else ": not ranked, since values of single examples are missing"
        return f"{', '.join(value(setting, with_error=True) for setting in shown)}{more}"
    vae, parts = reference(results), []
    for setting in best[:MOST_NAMED]:
        found = None if vae is None or setting == vae else comparison.between(setting, vae)
        against = ""
        if found is not None and vae is not None:
            decimals = enough_decimals(found, 2)
            difference, half = (number(each, decimals) for each in (found.difference, found.high - found.difference))
            sign = "+" if found.difference > 0 and str(difference).strip("0.") else ""
            against = f", minus {names[vae]}'s: {sign}{difference} [{half}]"
            if found.low > 0 or found.high < 0:  # else nothing is called lower or higher
                side = "below" if found.high < 0 else "above"
                against = f", {number(abs(found.difference), decimals)} [{half}] {side} {names[vae]}'s"
        parts.append(f"{value(setting)}{against}")
    count = f"{len(comparison.settings)} compared"
    count += f" ({len(measured)} have an NLL)" if len(measured) > len(comparison.settings) else ""
    unseen = _unseen_text(comparison, names)
    if len(best) == 1:
        return f"{parts[0]}: lowest of {count}{unseen}"
    others = len(best) - len(parts)
    listed = "; ".join([*parts, *([f"{others} more"] if others else [])])

    return f"cannot be distinguished, of {count}: {listed}{unseen}"


def _unseen_text(comparison: Comparison, names: Mapping[str, str]) -> str:
    """Says which settings are best on the unseen test examples, if these are not the best ones on all; else empty."""
    unseen = comparison.unseen
    if unseen is None or not unseen.best or list(unseen.best) == list(comparison.best):
        return ""
    best = [names[setting] for setting in unseen.best]
    if len(best) == 1:
        words = f"{best[0]} is lowest"
    elif len(best) > MOST_NAMED:
        words = f"{len(best)} cannot be distinguished"
    else:
        words = f"{word_list(best)} cannot be distinguished"

    return f". On the {unseen.examples:,} test examples that are not in the training data, {words}"


def probe_text(results: Sequence[Result]) -> str | None:
    """Names the setting with the highest accuracy of a probe, for the largest number of labels.

    The text has the next accuracy, that of the VAE, and the difference from it, too. It gives no interval: `claims`
    decides about accuracies. The sign ‡ follows an accuracy of a setting with a training that did not converge.

    Args:
        results: Results of all models of one data set.

    Returns:
        A text such as `DU-VAE 87.6 %, next BN-VAE 85.0 %, VAE 67.5 % (+20.1 points; 10,000 labels)`; None if there are
        no probes.
    """
    counts, names, over = label_counts(results), setting_names(results), over_seeds(results)
    if not counts:
        return None
    key = f"probe_{counts[-1]}"
    known = {setting: over.value(setting, key) for setting in names if over.value(setting, key) >= 0}
    if not known:
        return None
    highest, *others = sorted(known, key=lambda setting: -known[setting])
    vae = reference(results)
    size = f"{int(counts[-1]):,}" if counts[-1].isdigit() else counts[-1]
    marks = {
        setting: convergence.mark([result for result in results if result.job.setting == setting]) for setting in known
    }
    texts = [f"{names[highest]} {number(known[highest], 1)} %{marks[highest]}"]
    points = ""
    if others and others[0] != vae:
        texts.append(f"next {names[others[0]]} {number(known[others[0]], 1)} %{marks[others[0]]}")
    if vae in known and vae != highest:
        texts.append(f"{names[vae]} {number(known[vae], 1)} %{marks[vae]}")
        points = f"+{number(known[highest] - known[vae], 1)} points; "

    return f"{', '.join(texts)} ({points}{size} {label_unit(results)})"


def gaps(dataset: AnyDataset, results: Sequence[Result]) -> list[str]:
    """The differences between our numbers and the paper's for the systems in `SHOWN`, one text per table.

    Args:
        dataset: The data set's parameters in params.yaml.
        results: Results of all models of one data set.

    Returns:
        Texts such as `Table 1, NLL: VAE +0.3, DU-VAE −0.1`. Empty if the experiment is not the paper's.
    """
    if dataset.paper is None or dataset.paper.departs:
        return []
    texts = []
    for table in dataset.paper.tables:
        what, found = paper.gaps(table, dataset.column, [result for result in results if result.system in SHOWN])
        if found:
            texts.append(f"{what}: {', '.join(found)}")

    return texts


def columns(scores: Sequence[Score]) -> list[str]:
    """The columns of the scoreboard that have content in some row: `states`, `nll`, `probe` and `paper`."""
    return [name for name in ("states", "nll", "probe", "paper") if any(getattr(each, name) for each in scores)]
