"""Counters of all workers in Prometheus' text format: each worker counts in a file that all map into memory."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROUTES: tuple[str, ...] = ("/", "/assets/{name}", "/detect", "/embed", "/healthz", "/identify", "/metrics", "/model")
ROUTES += ("/people", "/people/{name}", "/people/{name}/photos", "/people/{name}/photos/{sha256}")
ROUTES += ("/openapi.json", "/verify", "none")
"""Every path as it is logged and counted: never with a name in it."""
STATUSES = (200, 201, 400, 401, 403, 404, 405, 408, 411, 413, 415, 421, 422, 500, 503)
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  #: Of the buckets, seconds
EVENTS = ("enrolled", "removed", "refused_tokens", "refused_connections", "aborted")
SHAPE = (len(ROUTES) + 1, len(STATUSES) + len(BOUNDS) + 2)
"""A row per route: its requests by status, by bucket, the slower ones, and their seconds; the last row has EVENTS."""


class Metrics:
    """What this worker counts, and the sum over the workers that share `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts = np.memmap(folder / f"{os.getpid()}.counts", np.float64, "w+", shape=SHAPE)

    def request(self, route: str, status: int, seconds: float) -> None:
        row = self._counts[ROUTES.index(route)]
        row[STATUSES.index(status if status in STATUSES else 500)] += 1
        row[len(STATUSES) + np.searchsorted(BOUNDS, seconds)] += 1
        row[-1] += seconds

    def event(self, name: str) -> None:
        self._counts[-1, EVENTS.index(name)] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """Everything in Prometheus' text format, version 0.0.4; `gauges` are this worker's values of the moment."""
        *routes, events = np.sum([np.fromfile(file).reshape(SHAPE) for file in self.folder.glob("*.counts")], axis=0)
        requests, times = ["# TYPE zoo_requests_total counter"], ["# TYPE zoo_request_seconds histogram"]
        for route, row in zip(ROUTES, routes, strict=True):
            for status, count in zip(STATUSES, row, strict=False):
                if count:
                    requests.append(f'zoo_requests_total{{route="{route}",status="{status}"}} {count:.0f}')
            buckets = np.cumsum(row[len(STATUSES) : -1])
            if buckets[-1]:
                for bound, count in zip([*BOUNDS, "+Inf"], buckets, strict=True):
                    times.append(f'zoo_request_seconds_bucket{{route="{route}",le="{bound}"}} {count:.0f}')
                times.append(f'zoo_request_seconds_sum{{route="{route}"}} {row[-1]:.6f}')
                times.append(f'zoo_request_seconds_count{{route="{route}"}} {buckets[-1]:.0f}')
        lines = requests + times
        for name, count in zip(EVENTS, events, strict=False):
            lines += [f"# TYPE zoo_{name}_total counter", f"zoo_{name}_total {count:.0f}"]
        for name, value in gauges.items():
            lines += [f"# TYPE zoo_{name} gauge", f"zoo_{name} {value:g}"]
        return "\n".join(lines) + "\n"
