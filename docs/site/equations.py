"""Equations of the site: LaTeX becomes MathML while the site is built, so that a page needs no program to draw them."""

import html
import logging
import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

# `pymdownx.arithmatex` writes these elements in the place of $...$ and $$...$$.
EQUATION = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)

FUNCTION = re.compile(r"\\(log|exp|max)(?![a-zA-Z(_^])(?!\s*(\\left|\\[bB]ig+)?[(\[])")
"""The name of a function whose argument has no brackets. LaTeX puts a narrow space between them, the converter none."""

SUM = re.compile(r"\\(sum|prod)(?![a-zA-Z]|\\)")
"""A sign whose limits stand below and above it where the equation has a line of its own."""

# MkDocs counts the warnings of loggers below its own; with `strict` they end the build.
log = logging.getLogger("mkdocs.hooks.equations")


def mathml(latex: str, display: bool) -> str:
    """Converts an equation to MathML.

    Args:
        latex: The equation in LaTeX, without its dollar signs.
        display: Whether the equation stands on a line of its own.
    """
    spaced = FUNCTION.sub(r"\\\1\\,", latex.strip())
    if display:  # the converter puts the limits beside the sign, as in the middle of a line
        spaced = SUM.sub(r"\g<0>\\limits", spaced)
    # The converter has ASCII's tilde for the sign of "is distributed as".
    return convert(spaced, display="block" if display else "inline").replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")


def converted(content: str, source: str) -> str:
    """Converts the equations of a page. An unknown command of LaTeX gives a warning, which ends a strict build.

    Args:
        content: HTML of the page.
        source: Name of the page in warnings.
    """

    def equation(match: re.Match[str]) -> str:
        latex = html.unescape(match["latex"])
        result = mathml(latex, match["open"] == "[")
        if "\\" in result:
            log.warning("%s: the equation '%s' has a command that cannot be shown.", source, latex.strip())

        return result

    return EQUATION.sub(equation, content)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Converts the equations of a page."""
    return converted(content, page.file.src_uri)
