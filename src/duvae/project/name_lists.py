"""Lists of the names of stages and of jobs, for messages."""

import re
from collections import Counter
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
    groups = Counter(re.sub(r"-[^-]+-\d+$", "", name) for name in names)
    alone = {re.sub(r"-[^-]+-\d+$", "", name): name for name in names}

    return ", ".join(f"{group} ({count})" if count > 1 else alone[group] for group, count in groups.items())
