"""Defines the commands that train a model and measure it."""

from duvae.cli import dispatch
from duvae.cli.options import PARAMS_FILE, Dataset, ParamsFile, Seed, Setting, examples, new_app

app = new_app()


@app.command(epilog=examples("duvae train --dataset synthetic --setting du_vae --seed 1"))
def train(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = PARAMS_FILE) -> None:
    """Train a model: one setting on one data set, with one seed.

    The command writes the weights to the folder models, and the history of the epochs to the folder results.
    """
    parameters = dispatch.params_of_job(params, dataset, setting, seed)
    from duvae.project import leftovers, memory

    memory.require_for_training(parameters, setting, dataset)
    with leftovers.training(parameters.job(dataset, setting, seed).name, dispatch.root()):
        dispatch.run("train", parameters, dataset, setting, seed)
    from duvae.report import result_line

    print(result_line.of_training(parameters, parameters.job(dataset, setting, seed), dispatch.root()))


@app.command(epilog=examples("duvae evaluate --dataset synthetic --setting du_vae --seed 1"))
def evaluate(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = PARAMS_FILE) -> None:
    """Measure a trained model on the test set.

    The measures are NLL by importance weighting, KL, MI, AU, MPD and CE; docs/metrics.md defines them.
    """
    job, parameters = dispatch.measure("evaluate", params, dataset, setting, seed)
    from duvae.report import result_line

    print(result_line.of_evaluation(parameters, job, dispatch.root()))


@app.command(epilog=examples("duvae probe --dataset synthetic --setting du_vae --seed 1"))
def probe(dataset: Dataset, setting: Setting, seed: Seed, params: ParamsFile = PARAMS_FILE) -> None:
    """Train linear classifiers on the features of a trained model.

    The features are the latent means, and for a flow also the codes to which the flow maps them. The command writes the
    accuracies of the classifiers on the test set to the folder results.
    """
    dispatch.measure("probe", params, dataset, setting, seed)
