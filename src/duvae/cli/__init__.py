"""The command line: `duvae <command>`.

The modules of this package declare the commands and their options. The package `duvae.commands` does the work of the
commands; it has one module for each command. A command imports heavy libraries, such as torch, only after it has read
and checked its parameters.
"""

import math
import os
import re
import sys
import traceback
from typing import Annotated

import typer

from duvae import streams
from duvae.cli import data, experiments, information, own, pages, project, training, use
from duvae.cli.topics import CommandsByTopic
from duvae.cli.usage import HELP
from duvae.errors import OUT_OF_MEMORY, Interrupted, UserError, as_user_error, failure_status
from duvae.paths import require_utf8

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "False",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Environment variables that keep the libraries from sending usage data to their makers."""

MEMORY_ADVICE = (
    "memory ran out. Stop other programs that use it, lower the sizes in params.yaml (batch, networks,"
    " importance_samples), or use a device with more memory."
)
"""What the user should do after `OUT_OF_MEMORY`."""

DEVICE_ADVICE = (
    "the GPU was lost or cannot be used. See what 'nvidia-smi' says about it, and reset the GPU or restart the machine."
    " Then run the same command again; a training continues from its saved state."
)
"""What the user should do after `DEVICE_LOST`."""

app = typer.Typer(
    name="duvae",
    cls=CommandsByTopic,
    help="Rebuild the results of DU-VAE, stage by stage.\n\n"
    "The stages run in this order: fetch, prepare, binarize (images only), validate, truth (synthetic data only), "
    "search and figure2 (studies only), train, evaluate, probe, samples, figure1, report, examples. "
    "'dvc repro' runs all stages that are out of date. The command with a stage's name runs that stage alone.\n\n"
    "The commands read params.yaml in the current folder; docs/parameters.md explains its keys.\n\n"
    "After 'duvae --install-completion' and a restart of the shell, the key Tab completes commands, options, and the"
    " names in params.yaml.",
    epilog="Examples:\n\n"
    "\b\n"
    "  duvae prepare --dataset synthetic\n"
    "  duvae train --dataset synthetic --setting du_vae --seed 1\n"
    "  duvae train --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)
# `duvae.cli.topics` has the order in which 'duvae --help' lists the commands.
for commands in (own, project, data, training, use, pages, experiments, information):
    app.add_typer(commands.app)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"duvae {version('duvae')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of `duvae` itself."""


def main() -> None:
    """Runs the command that the command line names.

    The exit status is 2 after a mistake of the user, 1 after an error of the program, and 130 after an interruption.
    `duvae.errors` explains three more: a host does not answer (69), memory ran out (71), a GPU was lost (75).
    """
    os.environ.update(TELEMETRY_OFF)
    _open_standard_streams()
    if "DVC_STAGE" not in os.environ:
        _run()
        return
    from duvae.project import earlier_outputs  # imported only here, since 'duvae --help' must start quickly

    with earlier_outputs.kept():
        _run()


def _run() -> None:
    """Runs the command, and turns its errors into messages and exit statuses."""
    try:
        for argument in sys.argv[1:]:
            require_utf8(argument)
        app(prog_name="duvae")
    except UserError as error:
        streams.print_error(error)
        sys.exit(error.status)
    except Interrupted as interruption:
        streams.say(f"\ninterrupted: {interruption}; run the same command again to continue from there")
        sys.exit(130)
    except SystemExit as leaving:
        if leaving.code == 130:
            streams.say("interrupted: no file is half-written; run the same command again")
        _require_output()
        raise
    except Exception as error:
        if isinstance(error, OSError):
            _require_output("\n")
            if refusal := as_user_error(error):
                streams.print_error(refusal)
                sys.exit(2)
        from duvae.project.memory import host_memory  # imported only here, since it imports the parameters' classes

        if (needed := _memory_asked_for(error)) > (size := host_memory()):
            streams.say(
                f"error: the command asked for {needed / 2**30:,.1f} GiB of memory; this machine has"
                f" {size / 2**30:,.1f} GiB. Lower the sizes in params.yaml (batch, networks, importance_samples), or"
                " give fewer or smaller examples."
            )
            sys.exit(2)
        if (status := failure_status(error)) is None:
            raise
        traceback.print_exc()
        streams.say(f"error: {MEMORY_ADVICE if status == OUT_OF_MEMORY else DEVICE_ADVICE}")
        sys.exit(status)


def _open_standard_streams() -> None:
    """Opens the null device in place of each standard stream that is closed.

    Without this, the next file that the command opens would become its standard output, and would receive its messages.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _require_output(text: str = "") -> None:
    """Writes to standard output what is still in its buffer. If this fails, the command ends with exit status 2.

    Args:
        text: Text that is written, too. Without a text, nothing is written if the buffer is empty.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output wanted no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        streams.discard(sys.stdout)
        streams.say(
            f"error: standard output: cannot be written ({error.strerror}). The files that the command has written are"
            " complete. Send the output to another place, then run the same command again."
        )
        sys.exit(2)


def _memory_asked_for(error: Exception) -> int:
    """Number of bytes of the allocation that failed; 0 if the number is unknown or memory was not the reason."""
    if isinstance(error, MemoryError) and hasattr(error, "shape") and hasattr(error, "dtype"):  # of NumPy
        return int(math.prod(error.shape) * error.dtype.itemsize)
    found = re.search(r"can't allocate memory: you tried to allocate (\d+) bytes", str(error))  # of PyTorch

    return int(found[1]) if found else 0
