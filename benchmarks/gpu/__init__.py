"""The check of a GPU: rates, parity with the CPU, waits, equal bits, half precision, speed and failures.

`make gpu-check` runs `benchmarks.gpu.__main__`.
"""
