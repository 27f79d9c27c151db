"""Checks a prepared data set with the library Great Expectations.

An expectation is one check, such as a bound on the values of a column of a pandas frame. `run_expectations` checks a
data set and writes the results as HTML pages (Data Docs). `summary` converts the results to values for a JSON file.
`require_all_met` raises an error if an expectation is not met.
"""

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duvae.config import AnyDataset, ImageDataset, OmniglotDataset
from duvae.data import data_docs, expectations, image_expectations
from duvae.data.expectations import WHOLE, Expectation, ExpectationResult
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.project.files import whole_folder


def run_expectations(prepared: Prepared, dataset: AnyDataset, docs: Path, name: str) -> list[ExpectationResult]:
    """Checks a prepared data set and writes the pages of Data Docs.

    If an expectation is not met, the function still writes the pages and raises no error.

    Args:
        prepared: The prepared data set.
        dataset: Parameters of the data set in params.yaml.
        docs: Folder of the pages; an existing folder is replaced.
        name: Name of the data set.

    Returns:
        Results of all expectations, in the order in which the pages show them.
    """
    order = sorted(
        prepared.splits, key=lambda split: (*(split != first for first in ("train", "valid", "test")), split)
    )
    if isinstance(dataset, OmniglotDataset | ImageDataset):
        frames, suites = image_expectations.frames_and_suites(prepared, dataset, order)
    else:
        frames, suites = expectations.frames_and_suites(prepared, dataset, order)
    with whole_folder(docs) as site, _complete_pages(site):
        results = _run(frames, suites, site, name)
        data_docs.finish(site, name, results)

    return results


@contextlib.contextmanager
def _complete_pages(site: Path) -> Iterator[None]:
    """Raises an error if Great Expectations leaves out a page, which it only logs, with a traceback.

    Args:
        site: Folder of the pages.

    Raises:
        UserError: If a page is left out.
    """
    logger, kept = logging.getLogger("great_expectations.render"), BufferingHandler(sys.maxsize)
    kept.setLevel(logging.ERROR)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(kept)
    try:
        yield
    finally:
        logger.removeHandler(kept)
        logger.propagate = propagate
    if kept.buffer:
        message = kept.buffer[0].getMessage()
        found = re.search(r"(\w+: \".*?\")\.  Traceback", message, re.DOTALL)
        why = found[1] if found else " ".join(message.split())[:200]
        raise UserError(
            f"{site}: a page cannot be written ({why}). Expected a folder with write permission, on a disk with free"
            " space. Correct this, then run the same command again."
        )


def require_all_met(
    results: list[ExpectationResult], name: str, docs: Path, stages: Sequence[str] = ("prepare", "validate")
) -> None:
    """Raises an error if an expectation is not met.

    Args:
        results: Results of all expectations.
        name: Name of the data set.
        docs: Folder of the pages.
        stages: Names of the `duvae` commands that the user should run again after a correction.

    Raises:
        UserError: If an expectation is not met. For each such expectation, the message has its name and sentence, the
            observed value, and an example of a row that breaks it.
    """
    broken = [result for result in results if not result.success]
    if not broken:
        return
    listed = "\n".join(f"  {_sentence(result)}" for result in broken)
    again = " and ".join(f"'duvae {stage} --dataset {name}'" for stage in stages)
    raise UserError(
        f"data/prepared/{name}: {len(broken)} of {len(results)} expectations are not met:\n{listed}\n"
        f"Page with all expectations: {docs / 'index.html'}. Correct the files or the parameters (datasets.{name}),"
        f" then run {again} again."
    )


def summary(results: list[ExpectationResult], prepared: Prepared, name: str) -> dict[str, Any]:
    """Converts the results to values for a JSON file. No value is a time, so that equal data give equal files."""
    return {
        "dataset": name,
        "documents": {split: len(documents) for split, documents in prepared.splits.items()},
        "expectations": [
            {
                "split": result.split,
                "name": result.expectation.name,
                "about": result.expectation.sentence,
                "type": result.expectation.kind,
                "expected": dict(result.expectation.arguments),
                "observed": result.observed,
                "success": result.success,
            }
            for result in results
        ],
    }


def _run(
    frames: Mapping[str, pd.DataFrame], suites: Mapping[str, list[Expectation]], site: Path, name: str
) -> list[ExpectationResult]:
    """Checks each frame against its expectations in `suites`, and writes the pages of Great Expectations below `site`.

    The keys of `frames` and `suites` are the names of the frames.
    """
    # Great Expectations reads this variable when it is imported.
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    with warnings.catch_warnings():
        # Modules that Great Expectations imports give deprecation warnings, which users of duvae cannot act on.
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations as gx
        from great_expectations.checkpoint.actions import UpdateDataDocsAction
        from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    folder = str(site.absolute()).replace("$", r"\$")  # the library takes `$name` for a variable of the environment
    context.add_data_docs_site(
        site_name=name,
        site_config={
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    data = context.data_sources.add_pandas(name)
    results: list[ExpectationResult] = []
    for split, expected in suites.items():
        suite = context.suites.add(
            gx.ExpectationSuite(
                name=split,
                expectations=[
                    getattr(gx.expectations, expectation.kind)(
                        **expectation.arguments,
                        description=f"{expectation.name}: {expectation.sentence}",
                        meta={"order": order},
                    )
                    for order, expectation in enumerate(expected)
                ],
            )
        )
        batch = data.add_dataframe_asset(split).add_batch_definition_whole_dataframe("all")
        checked = context.validation_definitions.add(gx.ValidationDefinition(name=split, data=batch, suite=suite))
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=split,
                validation_definitions=[checked],
                # The results then name the rows that break an expectation by the index of the document or image.
                result_format={"result_format": "SUMMARY", "unexpected_index_column_names": [frames[split].columns[0]]},
                actions=[UpdateDataDocsAction(name="pages", site_names=[name])],
            )
        )
        run = checkpoint.run(batch_parameters={"dataframe": frames[split]}, run_id=gx.RunIdentifier(run_name=name))
        by_order = {_order(result): result for each in run.run_results.values() for result in each.results}
        results += [_result(split, expectation, by_order[order], frames) for order, expectation in enumerate(expected)]

    return results


def _order(result: Any) -> int:
    return int(result.expectation_config.meta["order"])


def _result(
    split: str, expectation: Expectation, validated: Any, frames: Mapping[str, pd.DataFrame]
) -> ExpectationResult:
    """Builds the result of one expectation from `validated`, the result object of Great Expectations."""
    if validated.exception_info.get("raised_exception"):
        raise RuntimeError(f"{expectation.name} on {split}: {validated.exception_info.get('exception_message')}")
    observed, column = validated.result.get("observed_value"), expectation.column
    if observed is None and column is not None:
        values = frames[split][column].dropna()
        observed = [_plain(values.min()), _plain(values.max())] if len(values) else []
    unexpected = int(validated.result.get("unexpected_count", 0))
    example, rows = None, list[int | str]()
    if unexpected:
        index = frames[split].columns[0]
        rows = [_plain(row[index]) for row in validated.result["partial_unexpected_index_list"]]
        place = int((frames[split][index] == rows[0]).to_numpy().argmax())
        example = _example(split, expectation, place, frames)

    return ExpectationResult(split, expectation, bool(validated.success), _plain(observed), unexpected, example, rows)


def _example(split: str, expectation: Expectation, row: int, frames: Mapping[str, pd.DataFrame]) -> str:
    """Describes one row that breaks an expectation.

    A row of the frame `WHOLE` stands for a whole split. The described row is then a row of the split's own frame: the
    document or image with the largest value in the column from which the rate is computed.
    """
    column = str(expectation.column)
    if split == WHOLE:
        split = str(frames[WHOLE]["split"].iloc[row])
        column = expectation.counted_column or str(frames[split].columns[1])
        row = int(frames[split][column].argmax())
    example = str(frames[split]["shown"].iloc[row])
    shown = example if len(example) <= 200 else f"{example[:200]}…"

    return f"{split}, {frames[split].columns[0]} {row}, {column} {frames[split][column].iloc[row]}: {shown!r}"


def _plain(value: Any) -> Any:
    return round(value.item(), 6) if isinstance(value, np.number) else value


def _sentence(result: ExpectationResult) -> str:
    """Writes the sentence about an unmet expectation for an error message."""
    expectation, observed = result.expectation, result.observed_text
    if result.unexpected and result.split != WHOLE:
        observed = f"{result.unexpected} that break{'s' if result.unexpected == 1 else ''} this rule ({observed})"
    example = f". Example: {result.example}" if result.example else ""

    return f"{expectation.name} ({result.split}): expected {expectation.sentence}; found {observed}{example}"
