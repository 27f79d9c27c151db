"""Rebuilding side by side: what is out of date in DVC's graph, on the devices of one or more machines.

Truth stays in DVC: each stage runs in a workspace of its own and fills the run cache that all share, from which one
`dvc repro` in the project records it. Nothing of the library needs this package.
"""
