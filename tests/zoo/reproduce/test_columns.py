"""The columns of a grid, as the command line spells them."""

from __future__ import annotations

import pytest

from zoo.errors import InputError
from zoo.reproduce.columns import cell_name, variant


def test_a_plus_within_a_number_begins_no_option() -> None:
    assert variant("arcface+lr=1e+2") == ("arcface", {"lr": "1e+2"})


@pytest.mark.parametrize("column", ["arcface+margin", "arcface+margin=", "arcface+seed=3", "arcface+head=cosface"])
def test_a_column_that_says_nothing_or_what_other_options_say_is_refused(column: str) -> None:
    with pytest.raises(InputError, match="expected --heads as HEAD or HEAD\\+option=value, found arcface"):
        variant(column)


def test_a_path_in_a_column_makes_no_folder_of_its_own() -> None:
    assert cell_name("arcface+data=faces/small", 3) == "arcface+data=faces-small-seed3"
