"""Claims name the experiments that are not the paper's."""

from dataclasses import replace

import pytest

from duvae import config
from duvae.report import claims
from duvae.report.checks import NOT_TESTED, SUPPORTED, Finding
from duvae.report.claim_rules import CLAIMS, CLASSIC, FLOWS
from duvae.report.claims import NOT_TUNED, OTHER_DATA, Line
from test_paper_claims import found

LIKELIHOOD = next(claim for claim in CLAIMS if claim.section == "4.2")
SPACES = next(claim for claim in CLAIMS if claim.section == "4.3")
SUPPLEMENT = next(claim for claim in CLAIMS if claim.section == "F")


def test_a_data_set_departs_as_params_yaml_says() -> None:
    text = found({"vae": 0.0})
    for departs, said in ((["Few sentences.", "Small networks."], "Few sentences"), ([], ""), (None, OTHER_DATA)):
        assert claims.difference_from_paper(LIKELIHOOD, replace(text, departs=departs)) == said


def test_synthetic_data_are_the_papers_for_latent_spaces_alone() -> None:
    synthetic = found({"vae": 0.0}, kind="synthetic")

    assert claims.difference_from_paper(SPACES, synthetic) == ""
    for claim in (LIKELIHOOD, SUPPLEMENT):
        assert claims.difference_from_paper(claim, synthetic) == f"{OTHER_DATA}; {NOT_TUNED}"


def test_baselines_without_batch_normalization_have_the_hyperparameters_for_yelp() -> None:
    """`NOT_TUNED` says so."""
    params = config.load()
    compared = 0
    for name, setting in params.settings.items():
        if setting.system in {*CLASSIC, *FLOWS} - {"bn_vae", "iaf_bn"} and {"synthetic", "yelp"} <= set(
            setting.columns
        ):
            assert setting.columns["synthetic"] == setting.columns["yelp"], name
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [(SPACES, "a", ""), (LIKELIHOOD, "a", "x")],
            "Data and sizes follow the paper only in a for section 4.3. The synthetic data come from our own generator",
        ),
        (
            [(SPACES, "a", ""), (LIKELIHOOD, "b", ""), (LIKELIHOOD, "c", "x")],
            "only in a for section 4.3; b for section",
        ),
        ([(LIKELIHOOD, "b", "x"), (SPACES, None, "")], "None of these data and sizes are the paper's. On other data"),
        ([(LIKELIHOOD, "b", "")], "All of these data and sizes follow the paper."),
        ([(LIKELIHOOD, None, "")], "No claim has been tested yet."),
    ],
)
def test_the_readme_says_which_experiments_are_the_papers(
    lines: list[tuple[claims.Claim, str, str]], said: str
) -> None:
    made = [
        Line(claim, dataset, Finding(SUPPORTED if dataset else NOT_TESTED, "", 2), "", differs)
        for claim, dataset, differs in lines
    ]
    text = claims.scope(made)

    assert said in text
    assert ("may be otherwise" in text) == any(differs for _, _, differs in lines)
    assert text in " ".join(claims.summary_block(made).split())
    assert text in " ".join(claims.table_block(made).split())


def test_the_size_names_the_sample_of_the_nll() -> None:
    def size(nll_examples: int | None) -> str:
        of = found({"vae": 0.0}, more=lambda *_: {"sentences": 360, "nll_examples": nll_examples})
        return claims.size(replace(of, train=1440))

    assert size(100) == "1,440 training / 360 (NLL: 100) test"
    assert size(360) == size(None) == "1,440 training / 360 test"
