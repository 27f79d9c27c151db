"""The parts of a claim name what they compare and what is missing, and read how the trainings ended."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from duvae.report import checks, claim_rules, claims
from duvae.report.checks import CANNOT_TELL, NOT_SUPPORTED, NOT_TESTED, SUPPORTED
from duvae.report.claim_rules import CLAIMS
from duvae.report.comparison import Comparison
from duvae.report.evidence import LIMITS, Evidence
from duvae.report.names import LONGER
from test_paper_claims import found, verdict


def test_a_training_that_did_not_converge_decides_nothing() -> None:
    (claim,) = [claim for claim in CLAIMS if claim.text.startswith("MAE does not")]

    def of(mae: float, ending: str) -> checks.Finding:
        more = {"ending": ending}
        return claim.rule(found({"vae": 0.0, "mae": mae}, more=lambda system, _: more if system == "mae" else {}))

    assert of(4.0, "decays").verdict == SUPPORTED
    assert "(not converged)" not in of(4.0, "decays").text
    for mae in (4.0, -4.0):
        finding = of(mae, "epochs")
        assert finding.verdict == CANNOT_TELL
        assert finding.text.endswith("(not converged)")
    assert "A part with a training that ended before it had converged is marked." in claims.EXPLANATION


def test_a_training_of_the_papers_length_decides() -> None:
    (claim,) = [claim for claim in CLAIMS if claim.text.startswith("MAE does not")]
    for kind, limit in LIMITS.items():
        for epochs in (limit - 1, limit):
            more = {"ending": "epochs", "epochs": epochs}
            of = found({"vae": 0.0, "mae": 4.0}, kind=kind, more=lambda *_, more=more: more)
            finding = claim.rule(dataclasses.replace(of, departs=()))
            assert finding.verdict == (SUPPORTED if epochs == limit else CANNOT_TELL)
            marked = ", but as long as the paper's)" if epochs == limit else ")"
            assert finding.text.endswith(f"(not converged{marked}"), "a part that decides is marked, too"
            for departs in (None, ["Few sentences."]):  # fewer updates than the paper's in as many epochs
                verdict_there = claim.rule(dataclasses.replace(of, departs=departs)).verdict
                assert verdict_there == (finding.verdict if kind == "synthetic" else CANNOT_TELL)


def test_seeds_of_which_some_have_collapsed_decide_nothing() -> None:
    """Their differences are not normal, so that the interval says too much."""
    (claim,) = [claim for claim in CLAIMS if claim.text.startswith("MAE does not")]

    def of(collapsed: int) -> checks.Finding:
        def more(system: str, seed: int) -> dict[str, Any]:
            gone = system == "mae" and seed <= collapsed
            return {"mi": 0.0, "use": 0.0} if gone else {"mi": 2.0, "use": 3.0}

        return claim.rule(found({"vae": 0.0, "mae": 4.0}, 5, more=more))

    assert [of(collapsed).verdict for collapsed in (0, 1, 4, 5)] == [SUPPORTED, CANNOT_TELL, CANNOT_TELL, SUPPORTED]
    assert "mae has collapsed with some seeds only" in of(1).text
    assert "with some seeds only" not in of(5).text


@pytest.mark.parametrize("text", ["DU-VAE has the most accurate", "more KL and MI", "IAF+BN collapses", "more compact"])
def test_every_kind_of_rule_reads_the_endings(text: str) -> None:
    """Accuracies, differences of KL and MI, states and entropies of unconverged models decide nothing."""
    systems = dict.fromkeys((*claim_rules.CLASSIC_PROBED, "du_vae", "iaf_bn"), 0.0)

    def of(ending: str) -> Evidence:
        def more(system: str, seed: int) -> dict[str, Any]:
            first = system == "du_vae"
            metrics: dict[str, Any] = {"mi": 2.0 if first else 1.0, "kl": 2.0 if first else 1.0, "ending": ending}
            metrics |= {"draws": [90.0 if first else 60.0] * 3, "ce": 0.5 if first else 3.5}
            return metrics | ({"mi": 0.0} if system == "iaf_bn" else {}) | {"use": 0.0 if system == "iaf_bn" else 3.0}

        return found(systems, 5, more=more)

    assert verdict(text, of("decays")) == SUPPORTED
    assert verdict(text, of("epochs")) == CANNOT_TELL


def test_sa_vae_is_compared_with_the_vae_of_its_optimisation() -> None:
    (claim,) = [claim for claim in CLAIMS if claim.text.startswith("Agg-VAE and SA-VAE have a lower NLL")]
    levels = {"vae": 0.0, "agg_vae": -4.0, "sa_vae": -4.0}

    plain = claim.rule(found(levels))
    assert plain.verdict == SUPPORTED
    assert "NLL of SA-VAE minus VAE: " in plain.text
    assert plain.text.endswith("whose optimisation differs")
    of = found({**levels, "vae_kim": -8.0})
    models = [
        dataclasses.replace(each, metrics={**each.metrics, "system": "vae"}) if each.system == "vae_kim" else each
        for each in of.results
    ]
    kim = claim.rule(dataclasses.replace(of, results=models))
    assert kim.verdict == NOT_SUPPORTED
    assert "NLL of sa_vae minus vae_kim: +" in kim.text
    assert kim.text.endswith("with the same optimisation")
    assert "optimisation" not in claim.rule(found(levels, kind="image")).text


def test_a_setting_that_has_not_the_name_of_its_system_is_named() -> None:
    of = found({"vae": 0.0, "sa_vae": -4.0})
    jobs = [
        dataclasses.replace(each, job=each.job._replace(setting="sa_vae_small")) if each.system == "sa_vae" else each
        for each in of.results
    ]
    nll = {{"sa_vae": "sa_vae_small"}.get(setting, setting): values for setting, values in of.comparison.nll.items()}
    renamed = dataclasses.replace(of, results=jobs, comparison=Comparison(nll))

    assert renamed.below("sa_vae", "vae").text.startswith("NLL of SA-VAE (sa_vae_small) minus VAE: −4")
    longer = [
        dataclasses.replace(each, job=each.job._replace(setting=f"sa_vae{LONGER}"))
        for each in of.models("sa_vae").values()
    ]
    assert dataclasses.replace(of, results=longer).setting("sa_vae") is None


def test_what_is_missing_is_named() -> None:
    (claim,) = [claim for claim in CLAIMS if claim.text.startswith("Agg-VAE and SA-VAE have a lower NLL")]

    assert claim.rule(found({"vae": 0.0, "agg_vae": -4.0})).text == "no results of SA-VAE"
    assert claim.rule(found({"vae": 0.0})).text == "no results of Agg-VAE and SA-VAE"
    worse = claim.rule(found({"vae": 0.0, "agg_vae": 4.0}))
    assert worse.verdict == NOT_SUPPORTED
    assert worse.text.endswith("(no results of SA-VAE)")
    of = found({"vae": 0.0, "mae": 4.0})
    unknown = dataclasses.replace(of, comparison=Comparison({"vae": of.comparison.nll["vae"]}, ["mae"]))
    (mae,) = [claim for claim in CLAIMS if claim.text.startswith("MAE does not")]
    assert mae.rule(unknown).text == "no NLL of single examples of MAE"
    lines = {line.claim.text: line for line in claims.lines([unknown])}
    assert lines[mae.text].finding.text == "made_up: no NLL of single examples of MAE"
    assert lines["On images, BN-VAE has a higher NLL than the VAE."].finding.text == "no data set of the kind image"


def timed(of: Evidence, seconds: Mapping[str, float], threads: Mapping[str, int] | None = None) -> Evidence:
    """Adds records of the trainings: CPU seconds, by system, and numbers of threads, one if not given."""
    models = []
    for each in of.results:
        record = {"cpu_seconds": seconds[each.system], "wall_seconds": 1.0, "peak_memory_mib": 1.0}
        record |= {"threads": (threads or {}).get(each.system, 1), "machine": {"processor": "A processor"}}
        models.append(dataclasses.replace(each, provenance={"train": record}))

    return dataclasses.replace(of, results=models)


@pytest.mark.parametrize(
    ("agg_vae", "seeds", "expected"),
    [
        (40.0, 5, SUPPORTED),
        (15.0, 5, CANNOT_TELL),
        (9.0, 5, CANNOT_TELL),  # with two parts, one of them says no in five of five seeds too often by chance
        (9.0, 6, NOT_SUPPORTED),
        (40.0, 4, CANNOT_TELL),
    ],
)
def test_training_time_needs_a_clear_ratio_and_all_seeds(agg_vae: float, seeds: int, expected: str) -> None:
    (claim,) = [claim for claim in CLAIMS if "much more time" in claim.text]
    seconds = {"vae": 10.0, "agg_vae": agg_vae, "sa_vae": 100.0}
    of = found(dict.fromkeys(seconds, 0.0), seeds, more=lambda *_: {"ending": "epochs"})
    finding = claim.rule(timed(of, seconds))

    assert finding.verdict == expected
    assert (
        f"the training of SA-VAE takes 10.0 times that of VAE; at least twice (held in {seeds} of {seeds}"
        in finding.text
    )
    parts = [
        dataclasses.replace(each, provenance={"train": each.provenance["train"] | {"seconds_per_epoch": [2.0, 3.0]}})
        if each.system == "agg_vae"
        else each
        for each in timed(of, seconds).results
    ]
    resumed = claim.rule(dataclasses.replace(of, results=parts))
    assert resumed.verdict == NOT_TESTED
    assert "no CPU time of a whole training of Agg-VAE" in resumed.text
    other = claim.rule(timed(of, seconds, {"agg_vae": 2}))
    assert other.verdict == CANNOT_TELL
    assert "Agg-VAE and VAE were not trained on the same processor and threads" in other.text
    assert claim.rule(of).verdict == NOT_TESTED


@pytest.mark.parametrize(("ending", "expected"), [("epochs", CANNOT_TELL), ("decays", SUPPORTED)])
def test_trainings_of_different_length_are_compared_by_time_only_if_they_converged(ending: str, expected: str) -> None:
    """The time of an epoch depends on their number, since the epochs with inner steps come first."""
    (claim,) = [claim for claim in CLAIMS if "much more time" in claim.text]
    seconds = {"vae": 10.0, "agg_vae": 40.0, "sa_vae": 100.0}
    of = found(
        dict.fromkeys(seconds, 0.0),
        5,
        more=lambda system, _: {"ending": ending, "epochs": 50 if system == "agg_vae" else 120},
    )
    finding = claim.rule(timed(of, seconds))

    assert finding.verdict == expected
    assert ("Agg-VAE and VAE were trained for different numbers of epochs" in finding.text) == (ending == "epochs")


@pytest.mark.parametrize(("parts", "seeds"), [(1, 5), (2, 6), (3, 6), (4, 7), (9, 8)])
def test_several_counted_parts_need_more_seeds_to_say_no(parts: int, seeds: int) -> None:
    assert checks.least_unanimous(parts) == seeds
    assert parts * 0.5**seeds <= 0.05
    assert checks.unanimous([None, True, False], "a", 3).text == "a (held in 1 of 3 seeds, undecided in 1)"
    held = [checks.unanimous([True] * seeds, "held", seeds) for _ in range(parts - 1)]
    for count, expected in ((seeds, NOT_SUPPORTED), (seeds - 1, CANNOT_TELL)):
        failed = checks.unanimous([False] * count, "failed", count)
        assert checks.together([*held, failed]).verdict == expected


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["A minus B: +1 nats (x)"], "A minus B: +1 nats (x)"),
        (["A minus B: +1 nats", "A minus C: +2 nats"], "A minus B: +1 nats; A minus C: +2 nats"),
        (
            ["X of A minus B: +1 nats (x)", "X of A minus C: +2 nats (x)", "X of A minus D: +3 nats (x)"],
            "X of A minus B: +1; minus C: +2; minus D: +3; all in nats (x)",
        ),
        (
            ["A minus B: +1 nats (0 to 2)", "A minus C: +2 nats (1 to 3)", "A minus D: +3 nats (2 to 4)"],
            "A minus B: +1 nats (0 to 2); minus C: +2 nats (1 to 3); minus D: +3 nats (2 to 4)",
        ),
        (["A: 1 of 2 nats", "B: 2 of 2 nats", "C: 2 of 2 nats"], "A: 1 of 2; B: 2 of 2; C: 2 of 2; all in nats"),
        (["A: 1 of 2", "B: 2 of 2", "C: 2 of 2"], "A: 1 of 2; B: 2 of 2; C: 2 of 2"),
        (["A minus B"] * 3, "A minus B; minus B; minus B"),
    ],
)
def test_what_texts_share_is_written_once(texts: list[str], said: str) -> None:
    assert checks.joined(texts) == said
