"""The parser of the programs' command lines, whose errors begin with `error:` as all errors of the project do."""

import argparse
import sys
from typing import NoReturn

from duvae import streams


class Parser(argparse.ArgumentParser):
    """Parser of the arguments of a program. After a mistake it prints one line, and ends with exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the program.

        Args:
            message: Text of argparse about the mistake, such as `argument --port: expected one argument`.
        """
        streams.say(f"error: {self.prog}: {message}. '{self.prog} --help' explains the options.")
        sys.exit(2)
