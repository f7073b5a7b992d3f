"""The metrics of several processes as one: whichever is asked answers for all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sidecar.server.scoreboard import Scoreboard
from sidecar.telemetry import Merge, Metrics

_Labels = tuple[tuple[str, str], ...]

log = structlog.get_logger(__name__)


class SharedMetrics(Collector):
    """What all processes have on the board together.

    Of one process, it publishes the metrics in its slot; they are counted on from where those before it in
    the slot have ended, so that no sum ever falls.
    """

    def __init__(self, metrics: Metrics, board: Scoreboard, slot: int) -> None:
        self._metrics = metrics
        self._board = board
        self._slot = slot
        self._before = load(board.read(slot))
        self._is_published = True

    def publish(self) -> None:
        """What this process has now, for the others. Where that cannot be, the last publication stays."""
        try:
            self._publish()
        except Exception:  # no fault in counting is a reason to end what is counted
            if self._is_published:
                log.exception("metrics_not_published", worker=self._slot)
            self._is_published = False
            return
        if not self._is_published:
            log.info("metrics_published_again", worker=self._slot)
        self._is_published = True

    def collect(self) -> Iterable[Metric]:
        """What this process has now (see `publish`), and the others had when they last published."""
        self.publish()
        contents = [load(self._board.read(slot)) for slot in range(self._board.slots)]
        return merged(contents, self._metrics.merged_by)

    def _publish(self) -> None:
        self._metrics.settle()
        own = self._metrics.registry.collect()
        self._board.publish(self._slot, dump(merged([self._before, own], self._metrics.merged_by)))


def retire(board: Scoreboard, slot: int) -> None:
    """For a process that has ended: what it has counted stays, and how it was is no more."""
    board.publish(slot, dump(family for family in load(board.read(slot)) if family.type != "gauge"))


def merged(processes: Iterable[Iterable[Metric]], merged_by: Mapping[str, Merge]) -> list[Metric]:
    """Each family once, of each of its samples the sum, or what `merged_by` says under the family's name."""
    families: dict[str, Metric] = {}
    values: dict[tuple[str, str, _Labels], list[float]] = {}
    for family in (family for process in processes for family in process):
        families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        for sample in family.samples:
            key = family.name, sample.name, tuple(sample.labels.items())
            values.setdefault(key, []).append(sample.value)
    for (kind, name, labels), each in values.items():
        # When somebody began to count: not what is counted.
        merge = min if name.endswith("_created") else merged_by.get(kind, sum)
        families[kind].add_sample(name, dict(labels), merge(each))
    return list(families.values())


def dump(families: Iterable[Metric]) -> bytes:
    """As `load` reads them."""
    plain = [
        (family.name, family.documentation, family.type, [tuple(sample)[:3] for sample in family.samples])
        for family in families
    ]
    return json.dumps(plain).encode("ascii")


def load(content: bytes) -> list[Metric]:
    """What somebody published; nothing where nobody did."""
    families = []
    for name, documentation, kind, samples in json.loads(content or b"[]"):
        family = Metric(name, documentation, kind)
        for sample in samples:
            family.add_sample(*sample)
        families.append(family)
    return families
