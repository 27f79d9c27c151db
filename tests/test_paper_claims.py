"""The verdicts on the paper's claims follow from the results, and say no more than these support."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_up
from duvae.commands import claims as command
from duvae.config import Job
from duvae.data.splits import Array
from duvae.errors import UserError
from duvae.report import checks, claim_rules, claims, latent_rules, results
from duvae.report.checks import CANNOT_TELL, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Check, together
from duvae.report.claim_rules import CLAIMS
from duvae.report.comparison import Comparison
from duvae.report.evidence import Evidence
from duvae.report.per_example import Space
from duvae.report.results import Result

HARD = np.random.default_rng(7).normal(30, 8, 200)
FIVE = np.array([[0.0, 0.0], [-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])


def model(system: str, seed: int, draws: Sequence[float] = (), **changed: Any) -> Result:
    """A made-up model; `draws` are the accuracies of its probes on the labelled subsets."""
    metrics = {"system": system, "hyperparameters": {"gamma": 1.0}, "sentences": 200, "nll": 30.0, "nll_stderr": 0.1}
    metrics |= {"kl": 1.6, "mi": 1.2, "au": 2, "mpd": 1.0, "ce": 1.0, "use": 3.0, "use_stderr": 0.1, "epochs": 10}
    metrics |= {"perplexity": 2.0, "reconstruction": 29.0, "best_epoch": 9, "ending": "decays", "decays": 5}
    accuracy = {"accuracy": float(np.mean(draws)) if draws else 0.0, "spread": 1.0, "draws": list(draws)}
    probe = {"by_labels": {"100": accuracy}} if draws else None
    history = pd.DataFrame(dict.fromkeys(results.HISTORY, 0.0), index=range(3))

    return Result(Job("made_up", system, seed, "yelp"), {**metrics, **changed}, history, probe, {})


def found(
    levels: Mapping[str, float],
    seeds: int = 3,
    kind: str = "text",
    noise: float = 0.3,
    more: Callable[[str, int], dict[str, Any]] = lambda system, seed: {},
    spaces: Mapping[tuple[str, int], Space] | None = None,
    jitter: float = 0.02,
) -> Evidence:
    """Made-up results, with the NLL of each system above a common NLL of the examples.

    `noise` is the standard deviation over examples, `jitter` that over seeds.
    """
    random = np.random.default_rng(3)
    models = [model(system, seed, **more(system, seed)) for system in levels for seed in range(1, seeds + 1)]
    nll: dict[str, dict[int, Array]] = {
        system: {
            seed: HARD + level + jitter * random.standard_normal() + noise * random.standard_normal(len(HARD))
            for seed in range(1, seeds + 1)
        }
        for system, level in levels.items()
    }

    return Evidence("made_up", kind, 2, models, Comparison(nll), spaces or {}, train=1000)


def verdict(text: str, of: Evidence) -> str:
    (claim,) = [claim for claim in CLAIMS if text in claim.text]

    return claim.rule(of).verdict


BASELINES = dict.fromkeys(claim_rules.CLASSIC, 5.0)


@pytest.mark.parametrize(
    ("levels", "seeds", "expected"),
    [
        ({"du_vae": 0.0, **BASELINES}, 3, SUPPORTED),
        ({"du_vae": 0.0, **BASELINES, "fb": -3.0}, 3, NOT_SUPPORTED),
        ({"du_vae": 5.0, **BASELINES}, 3, CANNOT_TELL),
        ({"du_vae": 0.0, **BASELINES}, 1, CANNOT_TELL),
        ({"du_vae": 0.0, "vae": 5.0}, 3, NOT_TESTED),
        ({"du_vae": 5.0, "vae": 0.0}, 3, NOT_SUPPORTED),
        (BASELINES, 3, NOT_TESTED),
    ],
)
def test_the_lowest_nll(levels: dict[str, float], seeds: int, expected: str) -> None:
    assert verdict("DU-VAE has the lowest NLL", found(levels, seeds)) == expected


def test_one_seed_shows_the_difference_but_decides_nothing() -> None:
    (claim,) = [claim for claim in CLAIMS if claim.text.startswith("MAE does not")]
    finding = claim.rule(found({"vae": 0.0, "mae": 4.0}, 1))

    assert finding.verdict == CANNOT_TELL
    assert "NLL of VAE minus MAE: −" in finding.text
    assert "(one seed)" in finding.text
    assert claim.rule(found({"vae": 0.0, "mae": 4.0}, 3)).verdict == SUPPORTED
    assert claim.rule(found({"vae": 4.0, "mae": 0.0}, 3)).verdict == NOT_SUPPORTED


def test_collapse_is_a_matter_of_all_seeds() -> None:
    def state(of: Sequence[float]) -> Evidence:
        return found(
            {"iaf_bn": 0.0},
            len(of),
            more=lambda _, seed: {"mi": None, "kl": 1.0, "use": of[seed - 1], "use_stderr": 0.01},
        )

    assert verdict("IAF+BN collapses", state([0.0] * 5)) == SUPPORTED
    assert verdict("IAF+BN collapses", state([0.0] * 4 + [3.0])) == CANNOT_TELL
    assert verdict("IAF+BN collapses", state([3.0] * 5)) == NOT_SUPPORTED
    assert verdict("IAF+BN collapses", state([0.0] * 4)) == CANNOT_TELL
    assert state([0.0, 3.0]).state("iaf_bn", True).text == "IAF+BN: 1 of 2 models collapsed (held in 1 of 2 seeds)"
    assert state([0.0]).state("iaf_bn", True).text == "IAF+BN: 1 of 1 model collapsed (held in 1 of 1 seed)"


def test_more_information_needs_the_same_gamma() -> None:
    def of(gamma: float, kl: float) -> Evidence:
        return found(
            {"du_vae": 0.0, "bn_vae": 0.0},
            3,
            more=lambda system, seed: {
                "hyperparameters": {"gamma": gamma if system == "du_vae" else 1.0},
                "kl": (kl if system == "du_vae" else 1.0) + 0.01 * seed,
                "mi": (kl if system == "du_vae" else 1.0) - 0.01 * seed * (system == "vae"),
            },
        )

    assert verdict("more KL and MI", of(1.0, 2.0)) == SUPPORTED
    assert verdict("more KL and MI", of(1.0, 0.5)) == NOT_SUPPORTED
    assert verdict("more KL and MI", of(0.5, 2.0)) == NOT_TESTED


@pytest.mark.parametrize(("du_vae", "expected"), [(90.0, SUPPORTED), (30.0, NOT_SUPPORTED), (60.0, CANNOT_TELL)])
def test_accuracies_are_compared_at_each_number_of_labels(du_vae: float, expected: str) -> None:
    systems = {"du_vae": 0.0, **dict.fromkeys(claim_rules.CLASSIC_PROBED, 0.0)}
    of = found(systems, more=lambda system, seed: {"draws": [du_vae if system == "du_vae" else 60.0] * 3})

    assert verdict("DU-VAE has the most accurate probes", of) == expected


def space(means: Array, variance: float, shuffled: bool = False) -> Space:
    labels = np.repeat(np.arange(5), 40)
    points = np.asarray(means, np.float64)[labels]
    if shuffled:
        points = np.random.default_rng(1).permutation(points)

    return Space("made up", points, np.full_like(points, variance), labels)


def spaces(**of: Space) -> dict[tuple[str, int], Space]:
    return {(system, seed): each for system, each in of.items() for seed in range(1, 8)}


def test_centres_are_counted_in_the_aggregated_posterior() -> None:
    one, five = space(0 * FIVE, 1.0), space(FIVE, 0.3)
    names = {"du_vae": 0.0, "vae": 0.0, "agg_vae": 0.0, "bn_vae": 0.0}

    def of(du_vae: Space, bn_vae: Space) -> Evidence:
        return found(names, 7, "synthetic", spaces=spaces(du_vae=du_vae, vae=one, agg_vae=one, bn_vae=bn_vae))

    def few(evidence: Evidence, seeds: int) -> Evidence:
        return dataclasses.replace(
            evidence, spaces={key: each for key, each in evidence.spaces.items() if key[1] <= seeds}
        )

    assert verdict("five centres", few(of(five, one), 5)) == SUPPORTED
    assert verdict("five centres", few(of(five, one), 4)) == CANNOT_TELL
    for no in (of(five, five), of(one, one)):
        assert verdict("five centres", no) == NOT_SUPPORTED
        assert verdict("five centres", few(no, 6)) == CANNOT_TELL, "one of four parts fails in six seeds by chance"


def test_a_number_of_centres_that_hangs_on_the_threshold_decides_nothing() -> None:
    """The central component has few sentences, so that its peak is a low one."""
    labels = np.repeat(np.arange(5), [8, 60, 60, 60, 60])
    points = FIVE[labels]
    low = Space("low", points, np.full_like(points, 0.5), labels)
    numbers = latent_rules.counts(latent_rules.density(low))
    assert numbers[0.01] == 5
    assert numbers[0.1] == 4
    assert latent_rules.as_many(numbers, 5) is None
    one = space(0 * FIVE, 1.0)
    names = {"du_vae": 0.0, "vae": 0.0, "agg_vae": 0.0, "bn_vae": 0.0}
    of = found(names, 7, "synthetic", spaces=spaces(du_vae=low, vae=one, agg_vae=one, bn_vae=one))
    assert verdict("five centres", of) == CANNOT_TELL


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((5, 5, 5, 5), "5 centres (for peaks from 1 to 10 % of the highest)"),
        ((5, 4, 4, 4), "4 centres (5 if peaks of at least 1 % of the highest are counted)"),
        (
            (3, 3, 2, 1),
            "2 centres (3 if peaks of at least 1 and 2 % of the highest are counted; 1 if only peaks of at least 10 %",
        ),
        ((1, 1, 1, 1), "1 centre (for"),
    ],
)
def test_the_thresholds_stand_beside_the_number_of_centres(numbers: Sequence[int], text: str) -> None:
    found = dict(zip(latent_rules.THRESHOLDS, numbers, strict=True))
    assert latent_rules.centres_text(found).startswith(text)
    assert latent_rules.as_many(found, numbers[0]) in (None, True)
    assert latent_rules.as_many(found, 9) is False


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((5, 5, 5, 5), True), ((6, 6, 6, 6), False), ((6, 6, 6, 4), None), ((4, 4, 3, 3), False), ((9, 7, 6, 6), False)],
)
def test_a_number_between_two_thresholds_is_not_ruled_out(numbers: Sequence[int], expected: bool | None) -> None:
    """With 6 centres at 5 % and 4 at 10 %, there may be five at a threshold between."""
    found = dict(zip(latent_rules.THRESHOLDS, numbers, strict=True))
    assert latent_rules.as_many(found, 5) is expected


def test_the_central_component_lies_between_the_others() -> None:
    assert latent_rules.surrounded(space(FIVE, 0.3), 0)
    assert not latent_rules.surrounded(space(FIVE + 9 * (np.arange(5) == 0)[:, None], 0.3), 0)
    assert not latent_rules.surrounded(space(FIVE, 0.3), 1)


def test_the_place_of_a_component_in_a_collapsed_space_decides_nothing() -> None:
    names = {"du_vae": 0.0, "agg_vae": 0.0, "bn_vae": 0.0}

    def of(mi: float) -> checks.Finding:
        (claim,) = [claim for claim in CLAIMS if "central component" in claim.text]
        all_spaces = spaces(**dict.fromkeys(names, space(FIVE, 0.3)))
        more = {"mi": mi, "use": 3.0 if mi else 0.0}
        return claim.rule(
            found(names, 7, "synthetic", 0.3, lambda system, _: more if system == "agg_vae" else {}, all_spaces)
        )

    assert of(1.0).verdict == SUPPORTED
    assert of(0.0).verdict == CANNOT_TELL
    assert "Agg-VAE: between the others in 0 of 0 that did not collapse, 7 collapsed" in of(0.0).text


def test_entropy_tells_how_compact_a_latent_space_is() -> None:
    """The entropy of the prior in two dimensions is 2.84 nats."""

    def of(du_vae: float, bn_vae: float) -> Evidence:
        return found(
            {"du_vae": 0.0, "bn_vae": 0.0},
            more=lambda system, _: {"mi": 1.0, "ce": (du_vae if system == "du_vae" else bn_vae) - 1.0},
        )

    assert verdict("more compact than the prior", of(2.5, 3.2)) == SUPPORTED
    assert verdict("more compact than the prior", of(3.0, 3.2)) == NOT_SUPPORTED


@pytest.mark.parametrize(("kl", "expected"), [(0.02, SUPPORTED), (0.5, NOT_SUPPORTED), (0.1, CANNOT_TELL)])
def test_the_aggregated_posterior_of_a_collapsed_vae_is_the_prior(kl: float, expected: str) -> None:
    """KL[q(z) || p(z)] is KL - MI; the seeds differ by 0.01 nats."""
    of = found({"vae": 0.0}, more=lambda _, seed: {"kl": kl + 0.01 * (seed - 2), "mi": 0.0})

    assert verdict("matches the prior", of) == expected


def test_a_fixed_shift_keeps_the_kl_but_not_the_information() -> None:
    def of(kl: float, mi: float, beta: float = 1.0, seeds: int = 5) -> Evidence:
        """A model with two latent dimensions, whose means give a KL of beta^2 nats."""
        values = {"kl": kl, "mi": mi, "use": 0.0, "hyperparameters": {"gamma": 0.6, "beta": beta}}
        return found({"bn_vae_fixed_beta": 0.0}, seeds, more=lambda *_: values)

    assert verdict("With a fixed shift", of(1.0, 0.0)) == SUPPORTED
    assert verdict("With a fixed shift", of(0.5, 0.0, seeds=6)) == NOT_SUPPORTED
    assert verdict("With a fixed shift", of(0.5, 0.0)) == CANNOT_TELL, "five seeds are too few for two parts"
    assert verdict("With a fixed shift", of(0.0101, 0.0, 0.1)) == SUPPORTED
    assert verdict("With a fixed shift", of(0.005, 0.0, 0.1, 6)) == NOT_SUPPORTED
    assert verdict("With a fixed shift", of(1.0, 0.0, seeds=4)) == CANNOT_TELL
    (claim,) = [claim for claim in CLAIMS if "With a fixed shift" in claim.text]
    assert "0.010 for β 0.1 (bound 0.009)" in claim.rule(of(0.0101, 0.0, 0.1)).text


@settings(deadline=None, max_examples=40)
@given(
    seeds=st.integers(0, 3),
    systems=st.sets(st.sampled_from(sorted({*claim_rules.CLASSIC, *claim_rules.FLOWS, "du_vae", "du_iaf", "ae"}))),
    kind=st.sampled_from(claim_rules.ANY),
    tie=st.booleans(),
    number=st.integers(0, 10**6),
)
def test_no_verdict_says_more_than_the_seeds(seeds: int, systems: set[str], kind: str, tie: bool, number: int) -> None:
    random = np.random.default_rng(number)
    levels = {system: 0.0 if tie else float(random.normal(0, 3)) for system in sorted(systems)}
    # An interval of 95 % may exclude a difference of 0 between seeds that differ by chance, so ties are exact.
    of = found(levels, seeds, kind, **({"noise": 0.0, "jitter": 0.0} if tie else {}))
    if not of.results:
        return
    for line in claims.lines([of]):
        if line.finding.seeds < checks.LEAST_SEEDS:
            assert line.finding.verdict in (CANNOT_TELL, NOT_TESTED)
        if line.dataset is None:
            assert line.finding.verdict == NOT_TESTED
        if tie and "NLL" in line.claim.text:
            assert line.finding.verdict in (CANNOT_TELL, NOT_TESTED)
        assert "nan" not in line.finding.text


def test_a_claim_holds_only_as_a_whole() -> None:
    good, bad, unclear, missing = (Check(True, "a", 3), Check(False, "b", 2), Check(None, "c", 3), Check(None, "d", 0))

    assert together([good, good]).verdict == SUPPORTED
    assert together([good, bad, unclear]).verdict == NOT_SUPPORTED
    assert together([good, unclear]).verdict == CANNOT_TELL
    assert together([good, missing]).verdict == NOT_TESTED
    assert together([good, bad, missing]) == checks.Finding(NOT_SUPPORTED, "a; b (d)", 2)
    rough = dataclasses.replace(bad, long_enough=False)
    assert together([good, rough]) == checks.Finding(CANNOT_TELL, "a; b (not converged)", 2)
    assert together([good, dataclasses.replace(good, long_enough=False)]).verdict == CANNOT_TELL
    assert together([bad, dataclasses.replace(good, long_enough=False)]).verdict == NOT_SUPPORTED
    assert together([rough, rough]).text == "b; b (all of these: not converged)"
    assert together([]).verdict == NOT_TESTED
    assert together([good, bad]).seeds == 2


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_both_pages_have_the_claims_of_todays_results(tmp_path: Path, name: str) -> None:
    params = made_up.params(settings=["vae", "mae"], seeds=[1, 2])
    made_up.project(tmp_path, params, params.run_jobs())
    (tmp_path / "docs").mkdir()
    empty = f"before\n{claims.BEGIN}\nold\n{claims.END}\nafter\n"
    for other in ("README.md", "docs/results.md"):
        (tmp_path / other).write_text(empty, encoding="utf-8")
    command.run(params, root=tmp_path)
    page = tmp_path / name
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{name}: expected the lines"):
        command.run(params, root=tmp_path)
    page.write_text(empty, encoding="utf-8")
    with pytest.raises(UserError, match=rf"{name}: .*not those of today.s results\. Run .duvae claims."):
        command.run(params, check=True, root=tmp_path)
    command.run(params, root=tmp_path)
    text = page.read_text(encoding="utf-8")
    assert all(f"| {claim.text} |" in text for claim in CLAIMS)
    counts = list(map(int, re.findall(r"^\| [a-z ]+ \| (\d+) \|", text, re.MULTILINE)))
    assert sum(counts) == (len(CLAIMS) if name == "README.md" else 0)
    assert ("<details>" in text) == (name == "README.md")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text.splitlines()
    command.run(params, check=True, root=tmp_path)


def test_a_project_without_docs_has_its_readme_alone(tmp_path: Path) -> None:
    params = made_up.params(settings=["vae", "mae"], seeds=[1, 2])
    made_up.project(tmp_path, params, params.run_jobs())
    (tmp_path / "README.md").write_text(f"{claims.BEGIN}\n{claims.END}\n", encoding="utf-8")
    command.run(params, root=tmp_path)
    assert "| cannot tell |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "docs").exists()


def test_the_summary_counts_each_claim_once_and_names_those_that_are_decided() -> None:
    """A decision on one data set outweighs `cannot tell` on another; two opposite decisions stand by themselves."""

    def line(number: int, dataset: str, verdict: str, seeds: int = 5) -> claims.Line:
        return claims.Line(CLAIMS[number], dataset, checks.Finding(verdict, "", seeds), "")

    found = [
        line(0, "a", SUPPORTED),
        line(0, "b", CANNOT_TELL, 1),
        *(line(1, dataset, NOT_SUPPORTED, 2) for dataset in ("a", "b")),
        line(2, "a", CANNOT_TELL),
        *(claims.Line(claim, None, checks.Finding(NOT_TESTED, "", 0), "") for claim in CLAIMS[3:]),
    ]
    rows = summary_rows(found)
    assert rows == {
        SUPPORTED: ["1", f"{CLAIMS[0].text.rstrip('.')}: supported (a; 5 seeds) (section {CLAIMS[0].section})"],
        NOT_SUPPORTED: ["1", f"{CLAIMS[1].text.rstrip('.')}: not supported (a, b; 2 seeds) (section 4.2)"],
        CANNOT_TELL: ["1", claims.REASONS[CANNOT_TELL]],
        NOT_TESTED: [str(len(CLAIMS) - 3), claims.REASONS[NOT_TESTED]],
    }
    rows = summary_rows([*found, line(0, "c", NOT_SUPPORTED, 3)])
    assert rows[SUPPORTED] == ["0", "–"]
    number, names = rows[claims.DIVIDED]
    assert number == "1"
    assert "supported (a; 5 seeds); not supported (c; 3 seeds)" in names


def summary_rows(found: Sequence[claims.Line]) -> dict[str, list[str]]:
    """The number of claims and the last column of each row of the summary, by verdict."""
    rows = re.findall(r"^\| ([a-z ,]+) \| (\d+) \| (.*) \|$", claims.summary_block(found), re.MULTILINE)

    return {verdict: [number, names] for verdict, number, names in rows}


@pytest.mark.parametrize(("fb", "flow", "expected"), [(0.0, 4.0, SUPPORTED), (4.0, 0.0, NOT_SUPPORTED)])
def test_a_flow_is_compared_by_what_its_claim_says(fb: float, flow: float, expected: str) -> None:
    """A claim is named after its comparison, and says which differences it cannot separate from the flow."""
    opposite = SUPPORTED if expected == NOT_SUPPORTED else NOT_SUPPORTED
    assert verdict("On text, FB has a lower NLL than IAF+FB.", found({"fb": fb, "iaf_fb": flow})) == expected
    assert verdict("On images, IAF+FB has a lower NLL than FB.", found({"fb": fb, "iaf_fb": flow}, kind="image")) == (
        opposite
    )
    flows = [claim for claim in CLAIMS if "IAF+FB" in claim.text and "among" not in claim.text]
    assert len(flows) == 3
    assert all("not the effect of the flow alone" in claim.remark for claim in flows)
    assert not [claim for claim in CLAIMS if "A flow " in claim.text]


def test_a_claim_that_nothing_tests_says_so() -> None:
    lines = claims.lines([])
    assert [line.claim for line in lines] == list(CLAIMS)
    assert {line.finding.verdict for line in lines} == {NOT_TESTED}
    assert dataclasses.replace(lines[0], dataset="x").dataset == "x"
