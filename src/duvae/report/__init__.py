"""Builds tables, figures and HTML pages from the outputs of the stages in dvc.yaml."""
