"""/metrics: plain integers turned into Prometheus' exposition format on each scrape.

Names follow Prometheus' conventions and what Envoy and Traefik count. Labels are bounded: a rule's name,
a method, a class of status codes, a reason from the code; never a path. What there is one of goes through
`prometheus_client`; it takes 10 us a sample, so lines that there are thousands of, one or more a rule, are
written here, in slices, between which requests are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest

from proxy import __version__
from proxy.admin import processes
from proxy.admin.slices import in_slices
from proxy.admin.state import AdminState, RulesStatus
from proxy.gateway.failures import REASONS
from proxy.stats import DURATION_BOUNDS_S, Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX: Final = "nocache_proxy_"
_READINESS_S: Final = 1.0  # a scrape should not time out because the app does: who is asked so long is not ready
