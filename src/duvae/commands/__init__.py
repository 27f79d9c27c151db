"""One module per command of `duvae`.

The function `run` of each module reads the inputs of the command, calls the library and writes the outputs.
"""
