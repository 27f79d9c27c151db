"""Variants of a synthetic data set stand in its section, and the page claims no more than their comparisons support."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import made_up
from duvae.commands import claims, report, truth
from duvae.config import (
    EveryEpochDecay,
    Job,
    Optimisation,
    Params,
    PatientDecay,
    Run,
    SyntheticDataset,
    TextNetworks,
)
from duvae.errors import UserError
from duvae.metrics.paired import interval
from duvae.project import job_list
from duvae.report import results, variant_page, variants
from duvae.report.per_example import Floor, PerExample
from duvae.report.results import Result
from duvae.report.variants import Group
from family import FULL_SIZE

SENTENCES = 200
HARD = np.linspace(30, 50, SENTENCES)
"""NLL of the test sentences under the base model."""
WIGGLE = np.resize([0.5, -0.5], SENTENCES)
"""Differences of single sentences that cancel out in their mean."""
FLOOR = Floor({"sentences": SENTENCES}, HARD - 20)
NAMES = ("no_dropout", "size_100", "size_200", "more_data", "all")
VARIANTS = [f"synthetic_{name}" for name in NAMES]


def synthetic(name: str) -> SyntheticDataset:
    dataset = FULL_SIZE.dataset(name)
    assert isinstance(dataset, SyntheticDataset)

    return dataset


def with_datasets(**datasets: Any) -> Params:
    return FULL_SIZE.model_copy(update={"datasets": datasets})


def model(dataset: str, setting: str = "vae", seed: int = 1, recorded: bool = True, **metrics: Any) -> Result:
    """A made-up result whose record has the parameters of params.yaml."""
    known = FULL_SIZE.setting(setting)
    history = pd.DataFrame(dict.fromkeys(results.HISTORY, 0.0), index=range(20))
    history["epoch"], history["learning_rate"], history["kl_weight"] = range(1, 21), 1.0, 1.0
    history["valid_loss"], history["train_reconstruction"], history["train_kl"] = 41.0, 37.5, 1.25
    values = {"system": known.system, "hyperparameters": {}, "nll": 45.0, "nll_stderr": 0.1, "kl": 0.5, "epochs": 20}
    values |= {"best_epoch": 12, "ending": "decays", "decays": 5, **metrics}
    parameters = {
        "hyperparameters": FULL_SIZE.hyperparameters(setting, dataset).model_dump(),
        "parts": known.parts.model_dump(),
        "networks": FULL_SIZE.dataset(dataset).networks.model_dump(),
        "optimisation": FULL_SIZE.optimisation(setting, dataset).model_dump(),
    }

    return Result(
        Job(dataset, setting, seed, "synthetic"),
        values,
        history,
        None,
        {"train": {"parameters": parameters} if recorded else {}},
    )


def values(nll: Any) -> PerExample:
    return PerExample({"test": SENTENCES}, np.arange(SENTENCES), np.asarray(nll, float), None, None, None)


def grouped(models: Mapping[Any, Any]) -> list[Group]:
    """The groups of made-up models.

    Args:
        models: NLL of the test sentences of each model; None: it is not known. The keys are data sets, or pairs of a
            data set and metrics that replace the made-up ones.
    """
    made = [model(key) if isinstance(key, str) else model(key[0], **dict(key[1])) for key in models]
    examples = [None if nll is None else values(nll) for nll in models.values()]
    found, _ = variants.trainings(FULL_SIZE, made, examples)

    return variants.groups(FULL_SIZE, "synthetic", found, FLOOR)


def told(group: Group) -> str:
    return " ".join(variant_page.sentences(group)).replace("\u00a0", " ")


# ------------------------------------------------------------------------------------ the rule


def test_the_variants_of_params_yaml() -> None:
    bases = {name: variants.base_of(FULL_SIZE, name) for name in FULL_SIZE.datasets}

    assert bases == {name: "synthetic" if name in VARIANTS else None for name in FULL_SIZE.datasets}


def test_the_first_data_set_with_the_same_sentences_is_the_base() -> None:
    base, wide, more = (synthetic(name) for name in ("synthetic", "synthetic_size_200", "synthetic_more_data"))

    assert variants.base_of(with_datasets(wide=wide, base=base), "wide") is None
    assert variants.base_of(with_datasets(wide=wide, base=base), "base") == "wide"
    assert variants.base_of(with_datasets(more=more, base=base), "base") == "more"
    assert variants.base_of(with_datasets(base=base, copy=base), "copy") is None
    assert variants.base_of(with_datasets(base=base, copy=base.model_copy(update={"truth": None})), "copy") is None


@pytest.mark.parametrize("change", [{"seed": 2}, {"test": 1999}, {"train": 15_000}, {"length": 9}, {"variance": 2.0}])
def test_other_sentences_make_no_variant(change: dict[str, Any]) -> None:
    base, other = synthetic("synthetic"), synthetic("synthetic_size_200")
    changed = other.model_copy(update={"source": other.source.model_copy(update=change)})

    assert variants.base_of(with_datasets(base=base, other=other), "other") == "base"
    assert variants.base_of(with_datasets(base=base, other=changed), "other") is None


def test_each_variant_of_params_yaml_changes_what_its_name_says() -> None:
    def flat(dataset: SyntheticDataset) -> dict[str, Any]:
        return variants.flat(dataset.source.training, dataset.networks.model_dump(), dataset.optimisation.model_dump())

    base = flat(synthetic("synthetic"))
    differences = {
        name: {key: value for key, value in flat(synthetic(f"synthetic_{name}")).items() if value != base[key]}
        for name in NAMES
    }
    dropout = {"networks.dropout_in": 0.0, "networks.dropout_out": 0.0}
    size = {"networks.embedding": 100, "networks.hidden": 100}

    assert differences["no_dropout"] == dropout
    assert differences["size_100"] == size
    assert differences["size_200"] == {"networks.embedding": 200, "networks.hidden": 200}
    assert differences["more_data"] == {
        "source.training": 64_000,
        "optimisation.epochs": 30,
        "optimisation.warmup": 3,
        "optimisation.decay.patience": 2,
        "optimisation.decay.not_before": 4,
    }
    assert differences["all"] == {**dropout, **size, "source.training": 64_000}
    for key in ("optimisation.epochs", "optimisation.decay.not_before"):  # in steps they are alike
        assert differences["more_data"][key] * 64_000 == base[key] * base["source.training"]


def test_the_floor_of_a_variant_is_not_computed_again(tmp_path: Path) -> None:
    content = job_list.contents(FULL_SIZE.model_copy(update={"run": "small"}))

    assert content["synthetics"] == ["synthetic", "synthetic_kim"]
    assert set(VARIANTS) < set(content["sets"])
    with pytest.raises(UserError, match=r"datasets\.synthetic_all\.truth: expected a quadrature; found null"):
        truth.run(FULL_SIZE, "synthetic_all", tmp_path)


def test_the_base_has_the_parameters_of_its_data_set_or_is_the_first() -> None:
    def base(*settings: str) -> str:
        made = [model("synthetic", setting) for setting in settings]
        (group,) = variants.groups(
            FULL_SIZE, "synthetic", variants.trainings(FULL_SIZE, made, [values(HARD)] * len(made))[0], FLOOR
        )
        assert group.base is not None

        return group.base.training.key

    assert base("vae_fifth_decay", "vae_adam", "vae") == "synthetic/vae"
    assert base("vae_fifth_decay", "vae_adam") == "synthetic/vae_fifth_decay"


def test_other_parts_or_hyperparameters_are_no_change() -> None:
    made = [model("synthetic", name) for name in ("vae", "vae_kim", "du_vae", "du_vae_10_03", "beta_vae")]
    found, _ = variants.trainings(FULL_SIZE, made, [values(HARD)] * len(made))

    assert len(found) == 5
    assert variants.groups(FULL_SIZE, "synthetic", found, FLOOR) == []


def test_a_record_says_what_was_trained_and_not_params_yaml() -> None:
    short = model("synthetic")
    networks = {**short.provenance["train"]["parameters"]["networks"], "hidden": 7}
    parameters = {**short.provenance["train"]["parameters"], "networks": networks}
    short = Result(short.job, short.metrics, short.history, None, {"train": {"parameters": parameters}})
    found, _ = variants.trainings(FULL_SIZE, [short, model("synthetic_no_dropout")], [values(HARD)] * 2)
    (group,) = variants.groups(FULL_SIZE, "synthetic", found, FLOOR)

    assert group.changes[0].differences["networks.hidden"] == (7, 50)


# ------------------------------------------------------------------------------------ the words


def test_every_parameter_has_a_name() -> None:
    fields = {
        *(f"networks.{name}" for name in TextNetworks.model_fields),
        *(f"optimisation.{name}" for name in Optimisation.model_fields if name != "decay"),
        *(f"optimisation.decay.{name}" for kind in (PatientDecay, EveryEpochDecay) for name in kind.model_fields),
    }

    assert set(variant_page.LABELS) == {"source.training", *fields}


def test_the_words_name_every_difference() -> None:
    found = {
        "optimisation.epochs": (120, 30),
        "source.training": (16_000, 64_000),
        "networks.dropout_in": (0.5, 0.0),
        "optimisation.learning_rate": (1.0, 0.001),
        "optimisation.decay.reset": (True, False),
        "optimisation.optimiser": ("sgd", "adam"),
        "networks.of_the_future": (1, 2),
    }

    assert variant_page.difference_words(found).replace("\u00a0", " ") == (
        "training sentences 16,000 → 64,000, dropout of words 0.5 → 0, optimiser sgd → adam, learning rate 1 → 0.001,"
        " epochs 120 → 30, new optimisers at a decay yes → no, of the future 1 → 2"
    )


def test_a_clear_difference_is_told_with_its_interval() -> None:
    (group,) = grouped({"synthetic": HARD, "synthetic_no_dropout": HARD - 3.2 + WIGGLE})
    text = told(group)

    assert "VAE is 20.00 nats above the floor (standard error 0.00; converged after 20 epochs, 5 decays)." in text
    assert (
        "Dropout of words 0.5 → 0, dropout of outputs 0.5 → 0: NLL 3.20 nats lower (95 % interval 3.13 to 3.27;"
        " one seed, so other seeds may differ); 16.80 nats above the floor (standard error 0.04)."
    ) in text
    assert "changes alone" not in text  # there is only one


def test_a_difference_around_zero_is_no_difference() -> None:
    (group,) = grouped({"synthetic": HARD, "synthetic_size_100": HARD + WIGGLE})
    text = told(group)

    assert (
        "Embedding 50 → 100, hidden units 50 → 100: NLL not distinguishable (95 % interval of the difference −0.07 to"
        " 0.07 nats; one seed, so other seeds may differ)"
    ) in text
    assert "lower" not in text
    assert "higher" not in text


def test_several_changes_share_one_confidence() -> None:
    """A change that one interval of 95 % alone would call lower is not told if four are compared."""
    shift = -2.25 * 0.5 / math.sqrt(SENTENCES)
    close = HARD + shift + WIGGLE
    others = {f"synthetic_{name}": HARD - 3 + WIGGLE for name in ("no_dropout", "size_200", "more_data")}
    (alone,) = grouped({"synthetic": HARD, "synthetic_size_100": close})
    (together,) = grouped({"synthetic": HARD, "synthetic_size_100": close, **others})
    expected = interval([close], [HARD], 1 - 0.05 / 4)

    assert "hidden units 50 → 100: NLL 0.08 nats lower" in told(alone)
    assert "hidden units 50 → 100: NLL not distinguishable" in told(together)
    assert [each.change for each in together.changes if each.training.key == "synthetic_size_100/vae"] == [expected]
    assert "The 4 intervals hold together with a confidence of 95 %." in variant_page.intro(together)


def test_the_largest_single_change_is_bounded_by_the_intervals() -> None:
    shifts = {"no_dropout": -4, "size_100": -2, "more_data": -1, "all": -15}
    (group,) = grouped({"synthetic": HARD, **{f"synthetic_{n}": HARD + d + WIGGLE for n, d in shifts.items()}})
    low = min(interval([HARD - 4 + WIGGLE], [HARD], 1 - 0.05 / 4).low, 0)
    (line,) = [line for line in variant_page.sentences(group) if line.startswith("By these")]
    bound = float(line.split("more than ")[1].split()[0])

    assert "none of the 3 changes alone lowers the NLL by more than" in line
    assert 0 <= bound + low <= 0.01
    assert (
        "synthetic_all/vae has the data and the networks of 3 of these changes together: it is 5.00 nats above the"
        " floor (standard error 0.04)."
    ) in told(group)


def test_worse_changes_are_not_said_to_lower_anything() -> None:
    models = {"synthetic": HARD, "synthetic_size_100": HARD + 2 + WIGGLE, "synthetic_no_dropout": HARD + 1 + WIGGLE}
    (group,) = grouped(models)

    assert "NLL 2.00 nats higher (95 % interval 1.9" in told(group)
    assert "none of the 2 changes alone lowers the NLL." in told(group)


def test_a_training_that_did_not_converge_is_told_and_marked() -> None:
    limit = ("synthetic_no_dropout", (("ending", "epochs"), ("decays", 1)))
    (group,) = grouped({"synthetic": HARD, limit: HARD - 3 + WIGGLE})
    table = variant_page.table(group, FLOOR)

    assert "This training had not converged: epoch limit (20) after 1 decay, best epoch 12 of 20." in told(group)
    assert [row.cells[0].mark for row in table.rows] == ["", "‡"]
    assert "‡" in table.caption
    (group,) = grouped({"synthetic": HARD, "synthetic_no_dropout": HARD - 3 + WIGGLE})
    assert "not converged" not in told(group)
    assert "‡" not in variant_page.table(group, FLOOR).caption


def test_without_a_base_nothing_is_compared() -> None:
    (group,) = grouped({"synthetic_no_dropout": HARD - 3 + WIGGLE, "synthetic_size_100": HARD})
    table = variant_page.table(group, FLOOR)

    assert group.base is None
    assert (
        told(group) == "There is no VAE on synthetic with a record of its parameters, so no change of its NLL is known."
    )
    assert [row.name.replace("\u00a0", " ") for row in table.rows] == [
        "dropout of words 0.5 → 0, dropout of outputs 0.5 → 0",
        "embedding 50 → 100, hidden units 50 → 100",
    ]
    assert [row.cells[2].text for row in table.rows] == [None, None]


def test_without_a_change_there_is_no_group() -> None:
    assert grouped({"synthetic": HARD}) == []


def test_without_the_nll_of_single_sentences_nothing_is_compared() -> None:
    (group,) = grouped({"synthetic": HARD, "synthetic_no_dropout": None, "synthetic_size_100": HARD - 1 + WIGGLE})

    assert "outputs 0.5 → 0: NLL not compared, since the NLL of single examples is missing." in told(group)
    assert "hidden units 50 → 100: NLL 1.00 nats lower" in told(group)


def test_trainings_without_a_record_are_set_apart() -> None:
    made = [model("synthetic"), model("synthetic_no_dropout", recorded=False), model("synthetic_all", nll=None)]
    found, unrecorded = variants.trainings(FULL_SIZE, made, [values(HARD), values(HARD), None])

    assert [each.key for each in found] == ["synthetic/vae"]
    assert [each.key for each in unrecorded] == ["synthetic_no_dropout/vae"]


def test_two_seeds_have_their_mean_and_the_wider_interval() -> None:
    made = [model(name, seed=seed) for name in ("synthetic", "synthetic_no_dropout") for seed in (1, 2)]
    nll = [HARD, HARD + 1, HARD - 3 + WIGGLE, HARD - 4 + WIGGLE]
    found, _ = variants.trainings(FULL_SIZE, made, [values(each) for each in nll])
    (group,) = variants.groups(FULL_SIZE, "synthetic", found, FLOOR)
    table = variant_page.table(group, FLOOR)

    assert group.changes[0].change == interval(nll[2:], nll[:2])
    assert (table.rows[0].cells[1].text, table.rows[0].cells[1].spread) == ("20.50", "0.71")
    assert (table.rows[1].cells[1].text, table.rows[1].cells[1].spread) == ("16.50", "0.71")
    assert "one seed" not in told(group).lower() + variant_page.intro(group).lower()


def test_the_loss_in_training_is_compared_without_dropout_only() -> None:
    (group,) = grouped({"synthetic": HARD, "synthetic_no_dropout": HARD - 3 + WIGGLE})
    table = variant_page.table(group, FLOOR)
    (place,) = [n for n, head in enumerate(table.heads) if head.label == "Valid. − train"]

    assert [row.cells[place].text for row in table.rows] == [None, "2.25"]
    (group,) = grouped({"synthetic": HARD, "synthetic_size_100": HARD - 3 + WIGGLE})
    assert "Valid. − train" not in [head.label for head in variant_page.table(group, FLOOR).heads]


def test_the_loss_in_training_is_not_compared_before_the_end_of_the_warm_up() -> None:
    made = model("synthetic_no_dropout")
    made.history.loc[made.history["epoch"] == 12, "kl_weight"] = 0.9
    (training,), _ = variants.trainings(FULL_SIZE, [made], [None])

    assert training.overfitting is None


def test_models_of_other_test_sentences_are_not_compared() -> None:
    made = [model("synthetic"), model("synthetic_no_dropout")]
    labels = np.zeros(SENTENCES, np.int64)
    examples = [
        PerExample({"test": SENTENCES}, np.arange(SENTENCES), HARD, None, None, found) for found in (labels, labels + 1)
    ]
    found, _ = variants.trainings(FULL_SIZE, made, examples)

    with pytest.raises(UserError, match="synthetic and synthetic_no_dropout: expected the same test examples"):
        variants.groups(FULL_SIZE, "synthetic", found, FLOOR)


@given(shift=st.floats(-0.5, 0.5), scale=st.floats(0.01, 2), seed=st.integers(0, 1000), changes=st.integers(1, 4))
def test_words_follow_the_simultaneous_interval(shift: float, scale: float, seed: int, changes: int) -> None:
    nll = HARD + shift + scale * np.random.default_rng(seed).normal(size=SENTENCES)
    others = {f"synthetic_{name}": HARD - 3 + WIGGLE for name in ("no_dropout", "size_200", "more_data")[: changes - 1]}
    (group,) = grouped({"synthetic": HARD, "synthetic_size_100": nll, **others})
    (line,) = [line for line in variant_page.sentences(group) if "50\u00a0→\u00a0100" in line]
    found = interval([nll], [HARD], 1 - 0.05 / changes)

    assert ("nats lower" in line) == (found.high < 0)
    assert ("nats higher" in line) == (found.low > 0)
    assert ("not distinguishable" in line) == (found.low <= 0 <= found.high)


def test_the_figure_has_a_bar_for_each_row_with_a_distance() -> None:
    (group,) = grouped({"synthetic": HARD, "synthetic_no_dropout": HARD - 3 + WIGGLE, "synthetic_size_100": None})
    (ax,) = variant_page.figure(group).axes

    assert [round(bar.get_width(), 6) for bar in ax.patches] == [20.0, 17.0]
    assert ax.get_yticklabels()[0].get_text() == "VAE"
    (group,) = grouped({"synthetic": HARD, "synthetic_no_dropout": None})
    assert not variant_page.drawable(group)


# ------------------------------------------------------------------------------------ the pages


def of_run(*blocks: Run) -> Params:
    return FULL_SIZE.model_copy(update={"run": "tried", "runs": {"tried": list(blocks)}, "figure1": None})


BASE = Run(datasets=["synthetic"], settings=["ae", "vae", "vae_adam", "du_vae"], seeds=[1])
OTHERS = Run(datasets=VARIANTS, settings=["vae"], seeds=[1])


def page(root: Path, params: Params) -> str:
    made_up.project(root, params)
    report.run(params, root)

    return (root / "reports/index.html").read_text(encoding="utf-8")


def claims_of(html: str) -> str:
    return html[html.index('<section id="claims">') : html.index("</section>", html.index('<section id="claims">'))]


def test_variants_stand_in_the_section_of_their_base(tmp_path: Path) -> None:
    html = page(tmp_path, of_run(BASE, OTHERS))
    text = html.replace("\u00a0", " ")

    assert "What the distance to the floor is made of" in html
    for name in VARIANTS:
        assert f'<section id="{name}">' not in html
        assert f"{name}/vae" in html
        assert f"VAE ({name}/vae)" in html  # in the table of costs
    assert "training sentences 16,000 → 64,000, epochs 120 → 30, epochs of the warm-up 10 → 3" in text
    assert "optimiser sgd → adam, learning rate 1 → 0.001" in text
    assert claims_of(html) == claims_of(page(tmp_path / "alone", of_run(BASE)))


def test_the_pages_have_no_claims_of_variants(tmp_path: Path) -> None:
    made_up.project(tmp_path, of_run(BASE, OTHERS))
    (tmp_path / "docs").mkdir()
    pages = [tmp_path / "README.md", tmp_path / "docs/results.md"]
    texts = []
    for run in (of_run(BASE), of_run(BASE, OTHERS)):
        for page in pages:
            page.write_text(f"{claims.claims.BEGIN}\n{claims.claims.END}\n")
        claims.run(run, root=tmp_path)
        texts.append([page.read_text(encoding="utf-8") for page in pages])

    assert texts[0] == texts[1]
    assert "synthetic" in texts[0][1]


def test_without_their_base_variants_are_ordinary_data_sets_without_claims(tmp_path: Path) -> None:
    both = Run(datasets=["synthetic_no_dropout"], settings=["vae", "bn_vae", "du_vae"], seeds=[1])
    html = page(tmp_path, of_run(both))

    assert '<section id="synthetic_no_dropout">' in html
    assert "What the distance to the floor is made of" not in html
    assert "synthetic_no_dropout" not in claims_of(html)
    assert "not tested" in claims_of(html)


def test_variants_of_a_base_without_a_floor_have_sections(tmp_path: Path) -> None:
    params = of_run(BASE, OTHERS)
    datasets = {**params.datasets, "synthetic": synthetic("synthetic").model_copy(update={"truth": None})}
    params = params.model_copy(update={"datasets": datasets})
    made_up.project(tmp_path, params)
    own, others = variants.split(params, results.read(params, params.run_jobs(), tmp_path))

    assert {each.job.dataset for each in own} == {"synthetic", *VARIANTS}
    assert others == {}


def test_variants_that_were_never_run_are_named(tmp_path: Path) -> None:
    made_up.project(tmp_path, of_run(BASE))
    report.run(of_run(BASE, OTHERS), tmp_path)
    html = (tmp_path / "reports/index.html").read_text(encoding="utf-8")

    assert "on synthetic_no_dropout vae (seed 1)" in html
    assert 'id="variants-synthetic-vae"' in html  # with vae_adam alone
