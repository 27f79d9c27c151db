"""One module per command: its `run` reads the inputs, calls the library and writes the outputs."""
