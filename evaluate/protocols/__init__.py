"""Benchmarks, one protocol a module; importing this registers them all, those of installed packages too."""

from zoo.evaluate.protocols.base import PROTOCOLS, Benchmark, Found, Protocol
from zoo.evaluate.protocols.ijb import IJBProtocol
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.protocols.scface import SCfaceProtocol
from zoo.evaluate.protocols.tinyface import TinyFaceProtocol

__all__ = ["PROTOCOLS", "Benchmark", "Found", "IJBProtocol", "PairsProtocol", "Protocol", "SCfaceProtocol"]
__all__ += ["TinyFaceProtocol"]

PROTOCOLS.load_entry_points("zoo.protocols", Protocol)  # last: third-party modules import from here
