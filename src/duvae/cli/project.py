"""Defines the commands that write files about the project itself.

These files hold the list of jobs (trainings), the page of parameters, the hashes of the code, and the hashes of the
user's own data files.
"""

from duvae.cli import dispatch
from duvae.cli.options import PARAMS_FILE, CheckOnly, ParamsFile, examples, new_app

app = new_app()


@app.command(epilog=examples("duvae graph", "duvae graph --check"))
def graph(check: CheckOnly = False, params: ParamsFile = PARAMS_FILE) -> None:
    """Write pipelines/jobs.yaml, the list of jobs that DVC runs.

    A job is a data set, a setting and a seed. `run` in params.yaml names the jobs; the command adds the five jobs of
    Figure 1. Run the command after a change of `run` or `figure1`, and commit the file.
    """
    dispatch.run("graph", dispatch.load_params(params), check=check)


@app.command(epilog=examples("duvae parameters", "duvae parameters --check"))
def parameters(check: CheckOnly = False, params: ParamsFile = PARAMS_FILE) -> None:
    """Write docs/parameters.md, the page of all parameters.

    Run the command after a change of params.yaml, and commit the page.
    """
    dispatch.run("parameters", dispatch.load_params(params), check=check)


@app.command(epilog=examples("duvae fingerprint", "duvae fingerprint && dvc repro --dry"))
def fingerprint() -> None:
    """Write fingerprints.yaml, the hashes of each stage's code.

    Comments, docstrings, formatting and annotations of functions do not change a hash. Run the command after a change
    of the code. Then 'git diff fingerprints.yaml' shows for which stages the code has changed, and 'dvc repro --dry'
    lists the stages that will run again.
    """
    dispatch.run("fingerprint")


@app.command(name="own-files", epilog=examples("duvae own-files"))
def own_files(params: ParamsFile = PARAMS_FILE) -> None:
    """Write data/own.yaml, the digests of your own files.

    The file has one digest (hash) for each data set that has files. 'dvc repro' writes it each time. If your files
    have changed, 'dvc repro' then makes their data set and its results again.
    """
    dispatch.run("own_files", dispatch.load_params(params))
