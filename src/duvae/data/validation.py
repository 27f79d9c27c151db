"""Expectations checked by Great Expectations: what came of them, as pages, as JSON and as an error."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duvae.config import AnyDataset, ImageDataset, OmniglotDataset
from duvae.data import data_docs, expectations, image_expectations
from duvae.data.expectations import WHOLE, Expectation, Outcome
from duvae.data.store import Prepared
from duvae.errors import UserError
from duvae.project.files import whole_folder


def validate(prepared: Prepared, dataset: AnyDataset, docs: Path, name: str) -> list[Outcome]:
    """Checks a prepared data set and writes Data Docs, whatever the outcome.

    Args:
        prepared: The data set.
        dataset: What params.yaml says of it.
        docs: The folder of the pages; replaced.
        name: The data set's name.

    Returns:
        The outcome of each expectation, in order.
    """
    order = sorted(
        prepared.splits, key=lambda split: (*(split != first for first in ("train", "valid", "test")), split)
    )
    if isinstance(dataset, OmniglotDataset | ImageDataset):
        frames, suites = image_expectations.checks(prepared, dataset, order)
    else:
        frames, suites = expectations.checks(prepared, dataset, order)
    with whole_folder(docs) as site:
        outcomes = _run(frames, suites, site, name)
        data_docs.finish(site, name, outcomes)

    return outcomes


def complain(outcomes: list[Outcome], name: str, docs: Path, stages: Sequence[str] = ("prepare", "validate")) -> None:
    """Stops where an expectation was not met.

    Args:
        outcomes: Of all expectations.
        name: The data set's name.
        docs: The folder of the pages.
        stages: What is to be run again.

    Raises:
        UserError: Naming each such expectation, what it expects, what was found and an example row.
    """
    broken = [outcome for outcome in outcomes if not outcome.success]
    if not broken:
        return
    listed = "\n".join(f"  {_sentence(outcome)}" for outcome in broken)
    again = " and ".join(f"'duvae {stage} --dataset {name}'" for stage in stages)
    raise UserError(
        f"data/prepared/{name}: {len(broken)} of {len(outcomes)} expectations are not met:\n{listed}\n"
        f"All of them: {docs / 'index.html'}. Correct the files or the parameters (datasets.{name}), then run"
        f" {again} again."
    )


def summary(outcomes: list[Outcome], prepared: Prepared, name: str) -> dict[str, Any]:
    """The outcomes as plain values, the same for the same data."""
    return {
        "dataset": name,
        "documents": {split: len(documents) for split, documents in prepared.splits.items()},
        "expectations": [
            {
                "split": outcome.split,
                "name": outcome.expectation.name,
                "about": outcome.expectation.about,
                "type": outcome.expectation.kind,
                "expected": dict(outcome.expectation.arguments),
                "observed": outcome.observed,
                "success": outcome.success,
            }
            for outcome in outcomes
        ],
    }


def _run(
    frames: Mapping[str, pd.DataFrame], suites: Mapping[str, list[Expectation]], site: Path, name: str
) -> list[Outcome]:
    """Great Expectations over each frame, its pages written below `site`."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of modules that it imports itself
        import great_expectations as gx
        from great_expectations.checkpoint.actions import UpdateDataDocsAction
        from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.add_data_docs_site(
        site_name=name,
        site_config={
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site.absolute())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    data = context.data_sources.add_pandas(name)
    outcomes: list[Outcome] = []
    for split, expected in suites.items():
        suite = context.suites.add(
            gx.ExpectationSuite(
                name=split,
                expectations=[
                    getattr(gx.expectations, expectation.kind)(
                        **expectation.arguments,
                        description=f"{expectation.name}: {expectation.about}",
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
                result_format={"result_format": "SUMMARY"},
                actions=[UpdateDataDocsAction(name="pages", site_names=[name])],
            )
        )
        run = checkpoint.run(batch_parameters={"dataframe": frames[split]}, run_id=gx.RunIdentifier(run_name=name))
        results = {_order(result): result for each in run.run_results.values() for result in each.results}
        outcomes += [_outcome(split, expectation, results[order], frames) for order, expectation in enumerate(expected)]

    return outcomes


def _order(result: Any) -> int:
    return int(result.expectation_config.meta["order"])


def _outcome(split: str, expectation: Expectation, result: Any, frames: Mapping[str, pd.DataFrame]) -> Outcome:
    if result.exception_info.get("raised_exception"):
        raise RuntimeError(f"{expectation.name} on {split}: {result.exception_info.get('exception_message')}")
    observed, column = result.result.get("observed_value"), expectation.column
    if observed is None and column is not None:
        values = frames[split][column].dropna()
        observed = [_plain(values.min()), _plain(values.max())] if len(values) else []
    unexpected = int(result.result.get("unexpected_count", 0))
    example = _example(split, expectation, frames) if unexpected else None

    return Outcome(split, expectation, bool(result.success), _plain(observed), unexpected, example)


def _example(split: str, expectation: Expectation, frames: Mapping[str, pd.DataFrame]) -> str:
    """A row that breaks an expectation; for a rate, the one that adds most to it."""
    arguments, column = expectation.arguments, str(expectation.column)
    values = frames[split][column]
    if "value_set" in arguments:
        bad = ~values.isin(arguments["value_set"])
    else:
        least, most = arguments["min_value"], arguments["max_value"]
        bad = (values < (-np.inf if least is None else least)) | (values > (np.inf if most is None else most))
    row = int(np.argmax(bad.to_numpy()))
    if split == WHOLE:
        split = str(frames[WHOLE]["split"].iloc[row])
        column = expectation.adds or str(frames[split].columns[1])
        row = int(frames[split][column].argmax())
    example = str(frames[split]["shown"].iloc[row])
    shown = example if len(example) <= 200 else f"{example[:200]}…"

    return f"{split}, {frames[split].columns[0]} {row}, {column} {frames[split][column].iloc[row]}: {shown!r}"


def _plain(value: Any) -> Any:
    return round(value.item(), 6) if isinstance(value, np.number) else value


def _sentence(outcome: Outcome) -> str:
    """An unmet expectation in words."""
    expectation, found = outcome.expectation, outcome.found
    if outcome.unexpected and outcome.split != WHOLE:
        found = f"{outcome.unexpected} that break{'s' if outcome.unexpected == 1 else ''} it ({found})"
    example = f". Example: {outcome.example}" if outcome.example else ""

    return f"{expectation.name} ({outcome.split}): expected {expectation.about}; found {found}{example}"
