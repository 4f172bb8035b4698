"""Names of interchangeable things."""

from __future__ import annotations

import pytest

from zoo.errors import InputError
from zoo.registry import Registry


@pytest.fixture
def shapes() -> Registry[int]:
    registry: Registry[int] = Registry("shape")
    registry.register("triangle")(3)
    registry.register("square")(4)
    return registry


def test_a_registered_name_is_found_and_listed_in_order(shapes: Registry[int]) -> None:
    assert shapes["square"] == 4 and "square" in shapes and len(shapes) == 2
    assert list(shapes) == ["square", "triangle"]


def test_a_taken_name_is_refused(shapes: Registry[int]) -> None:
    with pytest.raises(ValueError, match="a shape called 'square' is registered already"):
        shapes.register("square")(5)
    assert shapes["square"] == 4


def test_an_unknown_name_names_the_closest(shapes: Registry[int]) -> None:
    with pytest.raises(InputError, match="no shape is called 'sqare'; did you mean square"):
        shapes["sqare"]
