"""Messages about mistakes in params.yaml: file, line, key, what was expected and found, and the closest key."""

import functools
import operator
import re
from pathlib import Path

import pytest
import yaml

from duvae import cli, config, registry
from duvae.config.causes import causes
from duvae.config.places import Place
from duvae.errors import UserError
from duvae.messages import unknown
from duvae.project import job_list

PARAMS = Path(__file__).parents[1] / "params.yaml"
TEXT = PARAMS.read_text(encoding="utf-8")

BLOCKS = yaml.safe_load(TEXT)["runs"]["small"]
KIM = next(index for index, block in enumerate(BLOCKS) if block["datasets"] == ["synthetic_kim"])
"""Index of the first block whose settings begin on the line of the key."""

PROBE_OF_OMNIGLOT = "      per_character: [5, 10, 15]\n    paper:\n      tables: [table1, table3]"

# For each mistake: the text to replace once in params.yaml, its replacement, the key that the message names,
# and what the message says.
MISTAKES = {
    "unknown key at the top": ("threads: 1", "thread: 1", "thread", ["unknown key 'thread'", "'threads'"]),
    "missing key": ("threads: 1", "", "threads", ["expected this key; it is missing"]),
    "unknown key in a part": (
        "importance_samples:",
        "importance_sample:",
        "evaluation.importance_sample",
        ["unknown key 'importance_sample'", "did you mean 'importance_samples'?"],
    ),
    "unknown key of a source": (
        "lstm_range: 1.0",
        "lstm_rang: 1.0",
        "datasets.synthetic.source.lstm_rang",
        ["did you mean 'lstm_range'?"],
    ),
    "unknown key of a file": (
        "dev.0, label: 0",
        "dev.0, lable: 0",
        "datasets.short_yelp_resampled.source.train.0.lable",
        ["unknown key", "(did you mean 'label'?)"],
    ),
    "unknown key of a sample": (
        "size: 100000",
        "siz: 100000",
        "datasets.short_yelp_resampled.source.sample.siz",
        ["unknown key", "(did you mean 'size'?)"],
    ),
    "unknown key of the decay": (
        "not_before: 16",
        "not_befor: 15",
        "datasets.synthetic.optimisation.decay.not_befor",
        ["did you mean 'not_before'?"],
    ),
    "unknown key through an anchor": (
        "warmup: 10 ",
        "warm_up: 10",
        "datasets.synthetic.optimisation.warm_up and 13 more",
        ["did you mean 'warmup'?"],
    ),
    "unknown key of a data set": (
        "column: synthetic ",
        "colum: synthetic",
        "datasets.synthetic.colum",
        ["did you mean 'column'?"],
    ),
    "unknown key of a setting": (
        "parts: &du_parts",
        "part: &du_parts",
        "settings.du_vae.part",
        ["did you mean 'parts'?"],
    ),
    "unknown hyperparameter": (
        "gamma: 1.0, p: 0.5",
        "gama: 1.0, p: 0.5",
        "settings.du_vae.columns.synthetic.gama",
        ["unknown key", "(did you mean 'gamma'?)"],
    ),
    "hyperparameter of another system": (
        "synthetic: {gamma: 1.0}",
        "synthetic: {gamma: 1.0, p: 0.5}",
        "settings.bn_vae.columns.synthetic.p",
        ["unknown key 'p'", "expected one of gamma"],
    ),
    "p of 0": (
        "gamma: 1.0, p: 0.5",
        "gamma: 1.0, p: 0",
        "settings.du_vae.columns.synthetic.p",
        ["expected a number of at least 1e-06", "found 0"],
    ),
    "p above 1": (
        "gamma: 1.0, p: 0.5",
        "gamma: 1.0, p: 1.5",
        "settings.du_vae.columns.synthetic.p",
        ["expected a number of at most 1.0", "found 1.5"],
    ),
    "negative gamma": (
        "synthetic: {gamma: 1.0}",
        "synthetic: {gamma: -1.0}",
        "settings.bn_vae.columns.synthetic.gamma",
        ["expected a number of at least 1e-09", "found -1.0"],
    ),
    "gamma that is text": (
        "synthetic: {gamma: 1.0}",
        "synthetic: {gamma: '1.0'}",
        "settings.bn_vae.columns.synthetic.gamma",
        ["expected a number", "found '1.0'", "without quotes"],
    ),
    "dropout on variances without their floor": (
        "variance_floor: alpha",
        "variance_floor: none",
        "settings.du_vae.parts.variance_floor",
        ["expected 'alpha'", "found 'none'"],
    ),
    "epsilon as a text": (
        "torch, epsilon: 1.0e-8}",
        "torch, epsilon: '1e-8'}",
        "settings.bn_vae.parts.epsilon",
        ["expected a number", "1.0e-5 instead of 1e-5"],
    ),
    "infinite number": (
        "learning_rate: 1.0",
        "learning_rate: .inf",
        "datasets.synthetic.optimisation.learning_rate",
        ["expected a finite number"],
    ),
    "K of 0": (
        "importance_samples: 500",
        "importance_samples: 0",
        "evaluation.importance_samples",
        ["expected a number of at least 1", "found 0"],
    ),
    "K of 1.5": (
        "importance_samples: 500",
        "importance_samples: 1.5",
        "evaluation.importance_samples",
        ["expected a whole number", "found 1.5"],
    ),
    "true for a number": ("threads: 1", "threads: true", "threads", ["expected a whole number", "found true"]),
    "nothing for a number": ("threads: 1", "threads:", "threads", ["expected a whole number", "found nothing"]),
    "a list for a mapping": (
        "figure1: ",
        "figure1: [1]\nprobe2:",
        "figure1",
        ["expected a mapping", "found a list of length 1"],
    ),
    "dropout of 1": (
        "dropout_in: 0.5         # dropout",
        "dropout_in: 1.0 # dropout",
        "datasets.synthetic.networks.dropout_in",
        ["expected a number below 1"],
    ),
    "unknown system": (
        "system: bn_vae",
        "system: bnvae",
        "settings.bn_vae.system",
        ["unknown system 'bnvae' (did you mean 'bn_vae'?)"],
    ),
    "unknown kind": (
        "kind: synthetic",
        "kind: synthetik",
        "datasets.synthetic.kind",
        ["unknown kind 'synthetik' (did you mean 'synthetic'?)"],
    ),
    "missing kind": ("    kind: synthetic\n", "", "datasets.synthetic.kind", ["it is missing"]),
    "unknown choice": (
        "parts: {init: paper}",
        "parts: {init: papr}",
        "settings.ae.parts.init",
        ["expected 'torch', 'paper', 'paper_zero_bias' or 'uniform_01'", "found 'papr'", "did you mean 'paper'?"],
    ),
    "unknown data set in run": (
        "datasets: [synthetic]",
        "datasets: [syntetic]",
        "runs.small.0.datasets.0",
        ["unknown data set 'syntetic'", "did you mean 'synthetic'?"],
    ),
    "unknown setting in run": (
        "settings: [ae, vae,",
        "settings: [ae, vea,",
        f"runs.small.{KIM}.settings.1",
        ["unknown setting 'vea'", "did you mean 'vae'?"],
    ),
    "no seed in run": (
        "seeds: [1]",
        "seeds: []",
        "runs.small.0.seeds",
        ["expected a length of at least 1", "found a list of length 0"],
    ),
    "negative seed": ("seeds: [1]", "seeds: [-1]", "runs.small.0.seeds.0", ["expected a number of at least 0"]),
    "no valid triple": (
        "run: small",
        "run: {datasets: [omniglot_small], settings: [bn_vae_fixed_beta_10], seeds: [1]}",
        "run",
        ["expected at least one setting"],
    ),
    "Figure 1 without its setting": ("  vae:\n", "  vae2:\n", "runs.small.0.settings.1", ["unknown setting 'vae'"]),
    "unknown subset": (
        "subsets: [labelled_100,",
        "subsets: [labeled_100,",
        "datasets.short_yelp.probe.subsets",
        ["unknown subset 'labeled_100'", "did you mean 'labelled_100'?"],
    ),
    "two sizes of images": (
        "    networks: &omniglot_networks\n      size: 28",
        "    networks: &omniglot_networks\n      size: 32",
        "datasets.omniglot.networks.size",
        ["expected 28, which is source.size; found 32"],
    ),
    "unknown drawings": (
        "drawings: lake ",
        "drawings: lakes ",
        "datasets.omniglot.source.drawings",
        ["expected 'lake', 'lake_png' or 'burda'", "found 'lakes'", "did you mean 'lake'?"],
    ),
    "unknown key of images": (
        "train_drawers: 15",
        "train_drawer: 15",
        "datasets.omniglot.source.train_drawer",
        ["unknown key 'train_drawer'", "did you mean 'train_drawers'?"],
    ),
    "an even kernel": (
        "kernels: [7, 5, 3]",
        "kernels: [7, 4, 3]",
        "datasets.omniglot_small.networks.kernels.1",
        ["expected 1, 3, 5, 7, 9 or 11; found 4"],
    ),
    "two ways of probing": (
        PROBE_OF_OMNIGLOT,
        PROBE_OF_OMNIGLOT.replace("15]", "15]\n      labels: [100]"),
        "datasets.omniglot.probe.per_character",
        ["expected either per_character, or labels and subsets"],
    ),
    "subsets of images": (
        PROBE_OF_OMNIGLOT,
        PROBE_OF_OMNIGLOT.replace("per_character: [5, 10, 15]", "subsets: [some]"),
        "datasets.omniglot.probe.subsets",
        ["expected only for texts"],
    ),
    "characters of texts": (
        "      labels: [100, 500, 1000, 2000, 10000]",
        "      per_character: [5]",
        "datasets.synthetic.probe.per_character",
        ["expected only for images"],
    ),
    "interpolations of one step": (
        "  steps: 8  ",
        "  steps: 1  ",
        "generation.steps",
        ["expected a number of at least 2"],
    ),
    "no examples for the NLL": (
        "nll_examples: 100",
        "nll_examples: 0",
        "datasets.omniglot_small.nll_examples",
        ["expected a number of at least 1", "found 0"],
    ),
    "all examples for the NLL in words": (
        "nll_examples: 100",
        "nll_examples: all",
        "datasets.omniglot_small.nll_examples",
        ["expected a whole number", "found 'all'"],
    ),
    "a mean of three coordinates": (
        "[[0.0, 0.0],",
        "[[0.0, 0.0, 0.0],",
        "datasets.synthetic.source.means.0",
        ["expected a length of at most 2"],
    ),
    "a setting that is no mapping": (
        "  fb:                         # Kingma et al. 2016",
        "  fb: 1\n  fb2:",
        "settings.fb",
        ["expected a mapping", "found 1"],
    ),
    "hyperparameters that are no mapping": (
        "synthetic: &free_bits {free_bits: 0.1}",
        "synthetic: &free_bits [0.1]",
        "settings.fb.columns.synthetic",
        ["expected a mapping", "found a list of length 1"],
    ),
    "unknown key of a grid": (
        "    without: [{gamma",
        "    withot: [{gamma",
        "setting_grids.figure2.withot",
        ["unknown key 'withot'", "did you mean 'without'?"],
    ),
    "unknown system of a grid": (
        "    system: du_vae\n    parts: *du_parts\n    optimisation: {}\n    columns: {yahoo: {}",
        "    system: du_va\n    parts: *du_parts\n    optimisation: {}\n    columns: {yahoo: {}",
        "setting_grids.figure2.system",
        ["unknown system 'du_va'", "did you mean 'du_vae'?"],
    ),
    "unknown hyperparameter of a grid": (
        "      p: [1.0, 0.9, 0.8, 0.7, 0.6]\n    without: [{gamma: 0.5, p: 0.9}, {gamma: 0.5, p: 0.8}, {",
        "      q: [1.0, 0.9]\n    without: [{q: 0.9, ",
        "setting_grids.figure2.values.q",
        ["unknown key 'q'", "expected one of gamma, p"],
    ),
    "a grid's value out of range": (
        "p: [1.0, 0.9, 0.8, 0.7, 0.6]",
        "p: [1.0, 0.9, 0.8, 0.7, 0.6, 1.1]",
        "setting_grids.figure2.values.p",
        ["expected a number of at most 1.0; found 1.1"],
    ),
    "a grid's value that no name can hold": (
        "gamma: [0.4, 0.5, 0.6, 0.7]\n      p",
        "gamma: [0.4, 0.5, 0.6, 10.5]\n      p",
        "setting_grids.figure2.values.gamma.3",
        ["expected a number from 0.0001 to below 10; found 10.5"],
    ),
    "a combination that a grid does not have": (
        "without: [{gamma: 0.5, p: 0.9}",
        "without: [{gamma: 0.5, p: 0.95}",
        "setting_grids.figure2.without.0",
        ["expected a combination of values of gamma, p that the grid has"],
    ),
    "a setting that a grid has too": (
        "  bn_vae_fixed_beta_01:",
        "  figure2_g04_p10:",
        "setting_grids.figure2",
        ["'figure2_g04_p10' occurs twice"],
    ),
    "a name that is no name": (
        "  agg_vae:   ",
        "  Agg-VAE:   ",
        "settings.Agg-VAE",
        ["lower-case letters, digits and _"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    old, new, key, said = MISTAKES[mistake]
    assert old in TEXT
    path = tmp_path / "params.yaml"
    text = TEXT.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["duvae", "graph", "--check", "--params", str(path)])

    with pytest.raises(SystemExit) as exit_:
        cli.main()

    output = capsys.readouterr()
    assert exit_.value.code == 2
    assert output.out == ""
    assert output.err.startswith(f"error: {path}: ")
    assert "Traceback" not in output.err
    lines = [line for line in output.err.splitlines() if f"{path}: {key} " in line or f"{path}: {key}:" in line]
    assert lines, output.err
    for part in said:
        assert any(part in line for line in lines), output.err


def test_two_unknown_keys_of_one_object_are_told_beside_other_mistakes(tmp_path: Path) -> None:
    text = TEXT.replace("lstm_range: 1.0", "lstm_rang: 1.0", 1).replace("output_range: 5.0", "output_rang: -5.0", 1)
    text = text.replace("halfwidth: 7.0", "halfwidth: -7.0", 1)

    with pytest.raises(UserError) as error:
        load(tmp_path, text)

    messages = str(error.value)
    for key in ("source.lstm_rang ", "source.output_rang ", "truth.halfwidth "):
        assert f"datasets.synthetic.{key}" in messages
    assert "source.lstm_range " not in messages, "the misspelt key is the cause"
    assert "did you mean 'lstm_range'?" in messages
    assert "did you mean 'output_range'?" in messages


def test_one_wrong_key_of_a_shared_anchor_is_one_line(tmp_path: Path) -> None:
    """The data sets share the parameters of the optimisation. The line names the first place and counts the rest."""
    text = TEXT.replace("warmup: 10", "warmupp: 10", 1)
    count = str(yaml.safe_load(text)).count("'warmupp'")
    number = next(number for number, line in enumerate(text.splitlines(), 1) if "warmupp: 10" in line)
    with pytest.raises(UserError) as error:
        load(tmp_path, text)

    assert str(error.value) == (
        f"{tmp_path / 'params.yaml'}: datasets.synthetic.optimisation.warmupp and {count - 1} more (line {number}):"
        " unknown key 'warmupp' (did you mean 'warmup'?)"
    )


def test_a_key_that_an_anchor_lacks_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, TEXT.replace("warmup: 10 ", "", 1))

    (line,) = str(error.value).splitlines()
    number = TEXT.splitlines().index("    optimisation: &text") + 1
    expected = rf": datasets\.synthetic\.optimisation\.warmup and \d+ more \(line {number}\): expected this key"
    assert re.search(expected, line)


def test_other_mistakes_on_one_line_stay_apart() -> None:
    lines = {("a",): 1, ("a", "x"): 2, ("a", "y"): 2, ("b",): 3, ("b", "x"): 4}
    mistakes = [
        (("a", "x"), "bad"),
        (("a", "y"), "bad"),
        (("b", "x"), "bad"),
        (("a", "z"), "gone"),
        (("b", "z"), "gone"),
    ]

    assert list(causes(mistakes, Place("f", 0, lines), {})) == [
        "f: a.x (line 2): bad",
        "f: a.y (line 2): bad",
        "f: b.x (line 4): bad",
        "f: a.z (line 1): gone",
        "f: b.z (line 3): gone",
    ]
    without_lines = ["f: a.x: bad", "f: a.y: bad", "f: b.x: bad", "f: a.z: gone", "f: b.z: gone"]
    assert list(causes(mistakes, Place("f"), {})) == without_lines


def test_the_same_mistake_in_two_files_has_two_causes() -> None:
    places = {("a",): Place("a.yaml", 1, {("x",): 7}), ("b",): Place("b.yaml", 1, {("x",): 7})}
    mistakes = [(("a", "x"), "bad"), (("b", "x"), "bad"), (("c", "x"), "bad"), (("a",), "empty")]
    assert list(causes(mistakes, Place("f", 0, {("c", "x"): 7}), places)) == [
        "a.yaml: x (line 7): bad",
        "b.yaml: x (line 7): bad",
        "f: c.x (line 7): bad",
        "a.yaml: empty",
    ]


def test_a_close_name_is_suggested_without_the_others() -> None:
    names = ["vae", "du_vae", "bn_vae"]

    assert unknown("system", "du_va", names) == "unknown system 'du_va' (did you mean 'du_vae'?)"
    assert unknown("system", "xyz", names) == "unknown system 'xyz'; expected one of vae, du_vae, bn_vae"
    assert unknown("system", "va1234", names) == (
        "unknown system 'va1234' (did you mean 'vae'?); expected one of vae, du_vae, bn_vae"
    ), "a distant suggestion may be wrong"
    assert unknown("system", "x", []) == "unknown system 'x'; expected none"


def test_the_line_is_the_mistakes_own(tmp_path: Path) -> None:
    text = TEXT.replace("gamma: 1.0, p: 0.5", "gamma: 1.0, p: 2", 1)
    line = 1 + next(n for n, row in enumerate(text.splitlines()) if "p: 2}" in row)

    with pytest.raises(UserError, match=rf"settings\.du_vae\.columns\.synthetic\.p \(line {line}\)"):
        load(tmp_path, text)


def test_a_line_behind_an_anchor_is_found(tmp_path: Path) -> None:
    text = TEXT.replace("warmup: 10", "warmup: -1", 1)
    line = 1 + next(n for n, row in enumerate(text.splitlines()) if "warmup: -1" in row)

    with pytest.raises(UserError, match=rf"optimisation\.warmup and \d+ more \(line {line}\)"):
        load(tmp_path, text)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = TEXT.replace("gamma: 1.0, p: 0.5", "gamma: 1.0, p: 2", 1).replace("threads: 1", "threads: 0", 1)

    with pytest.raises(UserError) as error:
        load(tmp_path, text)

    assert "threads (line" in str(error.value)
    assert "columns.synthetic.p (line" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads: 1\nthreads: 2\n", "the key 'threads' occurs twice"),
        ("threads: [1\n", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
        ("", "expected a mapping"),
    ],
)
def test_what_is_no_mapping_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(tmp_path, text)


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: not there.*--params"):
        config.load(tmp_path / "nowhere.yaml")

    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        config.load(tmp_path / "params.yaml")


def test_the_parameters_are_the_papers() -> None:
    params = config.load(PARAMS)

    assert params.evaluation.importance_samples == 500
    assert params.hyperparameters("du_vae", "synthetic") == registry.DiversityUncertainty(gamma=1.0, p=0.5)
    assert params.hyperparameters("bn_vae", "short_yelp") == registry.FixedScale(gamma=0.6)
    synthetic = params.dataset("synthetic")
    assert isinstance(synthetic, config.SyntheticDataset)
    source = synthetic.source
    assert (source.train, source.valid, source.test, source.length) == (16000, 2000, 2000, 10)
    assert synthetic.optimisation.epochs == 120
    assert params.dataset("short_yelp").optimisation.epochs == 120


def test_nothing_changes_once_it_is_read() -> None:
    params = config.load(PARAMS)

    with pytest.raises(ValueError, match="frozen"):
        params.threads = 2  # type: ignore[misc]


def test_a_setting_without_the_data_sets_column_is_told() -> None:
    raw = yaml.safe_load(TEXT)
    del raw["settings"]["du_vae"]["columns"]["yelp"], raw["studies"]
    params = config.parse(raw)

    with pytest.raises(UserError, match="no 'yelp', which data set 'short_yelp' needs"):
        params.job("short_yelp", "du_vae", 1)


@pytest.mark.parametrize(("dataset", "setting"), [("short_yelp", "du_va"), ("short_yel", "du_vae")])
def test_an_unknown_name_is_told_with_the_closest(dataset: str, setting: str) -> None:
    with pytest.raises(UserError, match="did you mean"):
        config.load(PARAMS).job(dataset, setting, 1)


def load(folder: Path, text: str) -> config.Params:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")

    return config.load(path)


# ------------------------------------------------------------------- grids of settings


def with_grid() -> config.Params:
    """The parameters with a grid `extra` in `run`."""
    raw = yaml.safe_load(TEXT)
    raw["run"] = {"datasets": ["yahoo"], "settings": ["vae", "extra"], "seeds": [1]}
    raw["setting_grids"]["extra"] = {
        "system": "du_vae",
        "parts": {"init": "torch", "variance_floor": "alpha"},
        "optimisation": {"epochs": 3},
        "columns": {"yahoo": {"p": 0.5}},
        "values": {"gamma": [0.4, 1]},
    }

    return config.parse(raw)


def test_a_grid_is_a_setting_for_each_combination() -> None:
    params = with_grid()

    assert [name for name in params.settings if name.startswith("extra")] == ["extra_g04", "extra_g10"]
    assert params.hyperparameters("extra_g10", "yahoo") == registry.DiversityUncertainty(gamma=1.0, p=0.5)
    assert params.setting("extra_g04").parts == config.Parts(init="torch", variance_floor="alpha")
    assert params.optimisation("extra_g04", "yahoo").epochs == 3
    assert [job.setting for job in params.run_jobs()] == ["vae", "extra_g04", "extra_g10"]


def test_the_cells_of_figure_2_are_those_that_table_1_lacks() -> None:
    params = config.load(PARAMS)
    cells = [name for name in params.settings if name.startswith("figure2_")]

    assert len(cells) == 17
    for name in cells:
        gamma, p = (int(part[1:]) / 10 for part in name.split("_")[1:])
        assert list(params.setting(name).columns) == ["yahoo", "yelp", "omniglot"]
        for values in params.setting(name).columns.values():
            assert values == registry.DiversityUncertainty(gamma=gamma, p=p)


def test_the_graph_depends_on_the_declaration() -> None:
    params = with_grid()
    raw = yaml.safe_load(TEXT)
    rows = yaml.safe_load(job_list.render(params))["jobs"]

    assert rows["yahoo-vae-1"]["key"] == "settings.vae"
    assert rows["yahoo-extra_g04-1"]["key"] == "setting_grids.extra"
    for row in yaml.safe_load(job_list.render(config.load(PARAMS)))["jobs"].values():
        declared = functools.reduce(operator.getitem, row["key"].split("."), raw)
        assert {"system", "parts", "optimisation"} <= set(declared)
        assert row["column"] in declared["columns"]
