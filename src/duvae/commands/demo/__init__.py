"""The command `demo`: trains VAE and DU-VAE on a small synthetic text, and shows what came of it.

The command writes a project into a new folder: parameters, data, models and results. The stages are those of the full
project, so that all other commands work in this folder too.
"""

from pathlib import Path

from duvae import streams
from duvae.commands.demo import folder, processes
from duvae.config import Params, SyntheticDataset
from duvae.errors import UserError

LATENT = 2
"""Number of latent dimensions that the picture can show."""


def run(params: Params, source: Path, output: Path, again: bool = False) -> None:
    """Trains the models that `run` names, measures them, and prints the results.

    Steps that an earlier call has finished in the same folder do not run again.

    Args:
        params: All parameters of the file `source`.
        source: File of parameters. The new folder gets a copy of the file.
        output: Folder to write everything into.
        again: Whether to remove what an earlier demonstration has written into the folder, and to begin anew.

    Raises:
        Interrupted: If the user asks for a stop. The same command continues.
        UserError: If the parameters or the folder do not fit, or if a step fails.
    """
    dataset = _require_drawable(params, source)
    with folder.opened(params, source, output, again) as state:
        streams.say(f"{output}: {state}: {intention(params, dataset)}")
        try:
            _prepare(params, dataset, output)
            processes.train_all(params, output)
            from duvae.commands.demo import results  # imported here, so that the processes of the models start sooner

            results.show(params, dataset, output)
        except UserError as error:
            remedy = f"'{folder.command(output, again=True)}' makes the whole folder anew."
            raise type(error)(f"{error}\n{remedy}") from error


def intention(params: Params, dataset: str) -> str:
    """Says in one line what the command trains.

    Args:
        params: All parameters of the demonstration.
        dataset: Name of its data set.
    """
    from duvae.report.cells import word_list
    from duvae.report.names import label

    jobs, chosen = params.run_jobs(), params.dataset(dataset)
    systems = word_list([label(params.setting(job.setting).system) for job in jobs])
    sentences = chosen.source.train if isinstance(chosen, SyntheticDataset) else 0
    together = "side by side" if processes.at_once(len(jobs)) > 1 else "one after the other"

    return f"{systems} on {sentences:,} synthetic sentences, {chosen.optimisation.epochs} epochs, {together}"


def _require_drawable(params: Params, source: Path) -> str:
    """Checks that all trainings are on one synthetic data set and have a two-dimensional z.

    Returns:
        The name of the data set.

    Raises:
        UserError: If the trainings are others.
    """
    names = list(dict.fromkeys(job.dataset for job in params.run_jobs()))
    chosen = params.dataset(names[0]) if len(names) == 1 else None
    if not isinstance(chosen, SyntheticDataset) or chosen.networks.latent != LATENT or chosen.probe.enabled:
        raise UserError(
            f"{source}: run: expected trainings on one data set of the kind synthetic, with 'latent: {LATENT}' and"
            f" 'probe: {{}}'; found {', '.join(names) or 'no trainings'}. Correct the file, or leave out --params."
        )

    return names[0]


def _prepare(params: Params, dataset: str, root: Path) -> None:
    """Draws the sentences and checks them, unless an earlier call has done so."""
    if (root / "data" / "validated" / f"{dataset}.json").exists():
        return
    from duvae.commands import prepare, validate

    prepare.run(params, dataset, root)
    validate.run(params, dataset, root)
