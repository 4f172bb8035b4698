"""Benchmarks, one protocol a module; importing this registers them all."""

from zoo.evaluate.protocols import ijb as ijb
from zoo.evaluate.protocols import pairs as pairs
from zoo.evaluate.protocols import tinyface as tinyface
from zoo.evaluate.protocols.base import PROTOCOLS as PROTOCOLS
from zoo.evaluate.protocols.base import Protocol as Protocol
