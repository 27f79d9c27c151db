"""Lists of the names of stages and of jobs, for messages."""

import re
from collections.abc import Sequence

MOST = 8
"""The largest number of names that a message lists one by one."""


def shortened(names: Sequence[str]) -> str:
    """Names in one line: all of them if they are few, otherwise their numbers by kind of stage and data set.

    Args:
        names: Names of stages, such as `train@synthetic-vae-1`, or of jobs, such as `synthetic-vae-1`.

    Returns:
        A text such as `a, b`, or `train@synthetic (12), probe@synthetic (12), prepare@yelp`.
    """
    if len(names) <= MOST:
        return ", ".join(names)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"-[^-]+-\d+$", "", name), []).append(name)

    return ", ".join(f"{group} ({len(own)})" if len(own) > 1 else own[0] for group, own in groups.items())
