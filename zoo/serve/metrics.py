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

_REQUESTS = [(route, status) for route in ROUTES for status in STATUSES]
_SLOTS = len(_REQUESTS) + len(ROUTES) * (len(BOUNDS) + 2) + len(EVENTS)


class Metrics:
    """What this worker counts, and the sum over the workers that share `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts = np.memmap(folder / f"{os.getpid()}.counts", np.float64, "w+", shape=(_SLOTS,))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts one answered request."""
        place = ROUTES.index(route)
        self._counts[_REQUESTS.index((route, status if status in STATUSES else 500))] += 1
        start = len(_REQUESTS) + place * (len(BOUNDS) + 2)
        self._counts[start + sum(seconds > bound for bound in BOUNDS)] += 1
        self._counts[start + len(BOUNDS) + 1] += seconds

    def event(self, name: str) -> None:
        """Counts one of EVENTS."""
        self._counts[_SLOTS - len(EVENTS) + EVENTS.index(name)] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """Everything in Prometheus' text format, version 0.0.4; `gauges` are this worker's values of the moment."""
        files = sorted(self.folder.glob("*.counts"))
        total = np.sum([np.fromfile(file, np.float64, _SLOTS) for file in files], axis=0)
        lines = ["# TYPE zoo_requests_total counter"]
        for (route, status), count in zip(_REQUESTS, total, strict=False):
            if count:
                lines.append(f'zoo_requests_total{{route="{route}",status="{status}"}} {count:.0f}')
        lines.append("# TYPE zoo_request_seconds histogram")
        for place, route in enumerate(ROUTES):
            start = len(_REQUESTS) + place * (len(BOUNDS) + 2)
            buckets = np.cumsum(total[start : start + len(BOUNDS) + 1])
            if not buckets[-1]:
                continue
            for bound, count in zip([*map(str, BOUNDS), "+Inf"], buckets, strict=True):
                lines.append(f'zoo_request_seconds_bucket{{route="{route}",le="{bound}"}} {count:.0f}')
            lines.append(f'zoo_request_seconds_sum{{route="{route}"}} {total[start + len(BOUNDS) + 1]:.6f}')
            lines.append(f'zoo_request_seconds_count{{route="{route}"}} {buckets[-1]:.0f}')
        for name, count in zip(EVENTS, total[-len(EVENTS) :], strict=True):
            lines += [f"# TYPE zoo_{name}_total counter", f"zoo_{name}_total {count:.0f}"]
        for name, value in gauges.items():
            lines += [f"# TYPE zoo_{name} gauge", f"zoo_{name} {value:g}"]
        return "\n".join(lines) + "\n"
