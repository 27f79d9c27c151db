"""The rules of `make pages`, without a browser. See browser_pages.py, which `.ci/run` runs with one."""

from pathlib import Path

import pytest

import browser_pages

NODES = [{"html": "<img src='a.png'>"}, {"html": "<img src='b.png'>"}]


def finding(impact: str) -> dict[str, object]:
    """A finding as axe-core returns it."""
    return {"id": "image-alt", "impact": impact, "help": "Images must have alternative text", "nodes": NODES}


@pytest.mark.parametrize(("impact", "fault"), [("critical", True), ("serious", True), ("moderate", False)])
def test_serious_findings_are_faults(impact: str, fault: bool) -> None:
    expected = f"image-alt ({impact}): Images must have alternative text; 2 x, first: <img src='a.png'>"
    assert browser_pages.serious([finding(impact)]) == [expected] * fault


def test_a_page_that_scrolls_sideways_is_a_fault() -> None:
    assert browser_pages.wide(0, 400) == []
    assert browser_pages.wide(12, 400, "on paper, ") == ["on paper, the page is 12 pixels wider than its window of 400"]


def test_without_a_browser_the_check_says_which_one_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser_pages.main([]) == 2
    assert "Install Chromium or Chrome: one of chromium," in capsys.readouterr().err


def test_a_page_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser_pages.main([str(tmp_path / "none.html")]) == 2
    assert f"error: {tmp_path / 'none.html'}: expected a file with a page" in capsys.readouterr().err
