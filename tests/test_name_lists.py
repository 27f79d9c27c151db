"""Lists of names in messages: short ones name all, long ones say how many of which kind."""

from collections.abc import Sequence

import pytest

from duvae.project import name_lists

TEN = [f"{kind}@short_yelp-{setting}-1" for kind in ("train", "probe") for setting in ("ae", "vae", "fb", "mae", "x_y")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["graph"], "graph"),
        (TEN[:8], ", ".join(TEN[:8])),
        (TEN, "train@short_yelp (5), probe@short_yelp (5)"),
        (["prepare@my-news", *TEN], "prepare@my-news, train@short_yelp (5), probe@short_yelp (5)"),
        (["train@own-vae-12", *TEN], "train@own-vae-12, train@short_yelp (5), probe@short_yelp (5)"),
        ([f"own-data-vae-{seed}" for seed in range(9)], "own-data (9)"),
    ],
)
def test_a_long_list_has_the_numbers_by_kind_and_data_set(names: Sequence[str], expected: str) -> None:
    assert name_lists.shortened(names) == expected
