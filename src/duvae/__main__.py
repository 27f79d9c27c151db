"""The command `duvae`; `python -m duvae` runs it too."""

# Everything else is imported in `main`, whose handler also covers Ctrl-C during these imports.
import sys


def main() -> None:
    """Runs the command line.

    A plain installation of the package lacks some libraries that the command `duvae` needs. The extras `pipeline` and
    `postgres` of the package install these libraries. If a library is missing, the command prints an error that names
    the extra to install, and ends with exit status 2.
    """
    try:
        from duvae import cli

        cli.main()
    except KeyboardInterrupt:  # while modules are imported; the command line handles it afterwards
        print("interrupted: no file is half-written; run the same command again", file=sys.stderr)
        from duvae.project import earlier_outputs

        earlier_outputs.put_back()
        earlier_outputs.print_advice()
        sys.exit(130)
    except ModuleNotFoundError as error:
        import importlib.util

        library = (error.name or "").partition(".")[0]
        if library in {"", "duvae", *sys.stdlib_module_names} or importlib.util.find_spec(library):
            raise
        extra = "postgres" if library == "psycopg" else "pipeline"
        print(
            f"error: the command 'duvae' needs the library '{library}', which is not installed. Install the extra"
            f" '{extra}' of this package: pip install 'duvae[{extra}]', or pip install '.[{extra}]' in a checkout.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
