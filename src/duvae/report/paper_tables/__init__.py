"""Reads the files of the paper's tables, and checks that they have rows for the data sets of params.yaml.

This module needs no pandas, so that `duvae graph` stays fast.
"""

import csv
from collections.abc import Mapping
from importlib.resources import files

from duvae.config import PaperTable, Params
from duvae.errors import UserError

FILES: Mapping[PaperTable, str] = {
    "table1": "table1_likelihood.csv",
    "table2": "table2_short_yelp_probe.csv",
    "table3": "table3_omniglot_probe.csv",
    "tableS1": "tableS1_yahoo_fixed_beta.csv",
    "tableS2": "tableS2_short_yelp_fixed_beta.csv",
}

TITLES: Mapping[PaperTable, str] = {
    "table1": "Table 1: likelihood",
    "table2": "Table 2: accuracy of classification, short Yelp",
    "table3": "Table 3: average accuracy of classification, OMNIGLOT",
    "tableS1": "Table S1: BN-VAE with a fixed shift β, likelihood on Yahoo",
    "tableS2": "Table S2: BN-VAE with a fixed shift β, accuracy on short Yelp",
}


def lines(name: PaperTable, column: str) -> list[dict[str, str]]:
    """Reads the lines of a table's file that belong to a column of data sets, in the printed order.

    Args:
        name: Key of the paper's table, such as `table1`.
        column: The column of data sets: yahoo, yelp or omniglot. A table without such columns has all its lines in
            every column.

    Returns:
        One dictionary per line, with the headings of the file as keys.
    """
    with (files("duvae.report.paper_tables") / FILES[name]).open(encoding="utf-8") as file:
        return [line for line in csv.DictReader(file) if line.get("dataset", column) == column]


def require_rows(params: Params) -> None:
    """Checks that each table of the paper has rows for each data set that the report compares with it.

    Raises:
        UserError: If a table has no rows for the column of a data set; the message has one line for each table.
    """
    names = dict.fromkeys(job.dataset for job in params.run_jobs())
    datasets = {name: params.dataset(name) for name in names}
    mistakes = [
        no_rows(name, table, dataset.column)
        for name, dataset in datasets.items()
        for table in (dataset.paper.tables if dataset.paper else [])
        if not lines(table, dataset.column)
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))


def no_rows(dataset: str, table: PaperTable, column: str) -> str:
    """The message that a table has no rows for the column of a data set."""
    return (
        f"params.yaml: datasets.{dataset}.paper.tables: {TITLES[table]} has no rows for the column"
        f" '{column}'. Remove '{table}' from the list, or correct the data set's column."
    )
