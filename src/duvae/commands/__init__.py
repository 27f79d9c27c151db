"""One module per command of `duvae`.

The function `run` of each module reads the inputs of the command, calls the other packages of duvae, and writes
the outputs.
"""
