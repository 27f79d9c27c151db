"""Builds the header that all pages of the report share: links to the other pages, and the origin of the results."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from duvae.report.cells import word_list
from duvae.report.results import Result, short_commit

RESULTS = {"Results": "index.html"}
"""The address of the page of all results below `reports`, by the words of its link."""

PAGES = {**RESULTS, "Figure 1": "figure1.html"}
"""The addresses of the two pages that a rebuild of Figure 1 writes."""

STUDIES = {"Studies": "index.html#studies"}
"""The address of the part on studies. The page of all results has it only if there are studies."""

MOST_COMMITS = 4
"""Largest number of commits that the header names one by one."""


def header(here: str, origin: str, pages: Mapping[str, str] = PAGES, above: str = "") -> Mapping[str, Any]:
    """Computes the variables of the header.

    Args:
        here: Name of the page in `pages`; empty: the page is none of them.
        origin: A line about the origin of the results on the page; empty: no such line.
        pages: Addresses of the pages to link, below `reports`, by the words of the link. All of them exist: a page of a
            private project does not link Figure 1, for example.
        above: The path from the page to the folder `reports`, such as `../`.

    Returns:
        A mapping with `home`, the address of the page of all results; `links`, with the name, the address and whether
        the page is this one; and `origin`.
    """
    return {
        "home": f"{above}index.html",
        "links": [
            {"name": name, "address": f"{above}{address}", "here": name == here} for name, address in pages.items()
        ],
        "origin": origin,
    }


def origin(results: Sequence[Result]) -> str:
    """Says in one line when, at which commits and with which version of duvae results were made.

    Args:
        results: Results of models.

    Returns:
        The line, such as `results of 3 May 2026, commit 0123456, duvae 0.1.0`. It says how many models have no record
        of their training, and so of the commit. Empty if there are no results.
    """
    known = [result for result in results if "train" in result.provenance]
    if results and not known:
        return "results of unknown date and commit: these models have no record"
    line = origin_of_records([record for result in known for record in result.provenance.values()])
    if len(known) < len(results):
        line = f"{len(known)} of {len(results)} models: {line}; the others have no record of date and commit"

    return line


def origin_of_records(records: Sequence[Mapping[str, Any]]) -> str:
    """Says when, at which commits and with which version of duvae stages ran; empty without records.

    Args:
        records: Contents of *.run.json.
    """
    days = sorted(
        {datetime.datetime.fromisoformat(str(each["started"])).date() for each in records if each.get("started")}
    )
    commits = list(dict.fromkeys(short_commit(each) for each in records if each.get("commit")))
    versions = sorted({str(each["versions"]["duvae"]) for each in records if "duvae" in each.get("versions", {})})
    parts = []
    if days:
        ends = dict.fromkeys(f"{day.day} {day:%B %Y}" for day in (days[0], days[-1]))
        parts.append(f"results of {' to '.join(ends)}")
    if len(commits) > MOST_COMMITS:
        parts.append(f"{len(commits)} commits")
    elif commits:
        parts.append(f"commit{'s' * (len(commits) > 1)} {word_list(commits)}")
    if versions:
        parts.append(f"duvae {word_list(versions)}")

    return ", ".join(parts)
