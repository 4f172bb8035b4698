"""Several heads trained under equal conditions, evaluated on the same benchmarks, and compared.

from zoo.reproduce import Grid, reproduce
reproduce(Grid("casia/", "benchmarks/"))
"""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.reproduce.grid import Grid, reproduce

__all__ = ["Grid", "reproduce"]
__getattr__, __dir__ = lazy(__name__, __file__)
