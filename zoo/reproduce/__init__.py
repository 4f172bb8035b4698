"""Several heads trained under equal conditions, evaluated on the same benchmarks, and compared.

from zoo.reproduce.grid import reproduce
reproduce("casia/", "benchmarks/", "reproduction")
"""
