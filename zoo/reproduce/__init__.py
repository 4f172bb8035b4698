"""Several heads trained under equal conditions, evaluated on the same benchmarks, and compared.

from zoo.reproduce import reproduce
reproduce("casia/", "benchmarks/", "reproduction")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.reproduce.grid import Grid as Grid
    from zoo.reproduce.grid import reproduce as reproduce

__all__ = ["Grid", "reproduce"]
__getattr__, __dir__ = lazy(__name__, {"grid": ["Grid", "reproduce"]})
