"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import func, select

from adapterhub.hub.store.models import Commit, Job, Repo

if TYPE_CHECKING:
    from adapterhub.hub.server.service import Service


class Metrics:
    """Counters of one server (a registry of its own, so that tests may run several)."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        names: dict[str, Any] = {"registry": self.registry, "namespace": "adapterhub"}
        self.requests = Counter(
            "http_requests",
            "Requests by method, route and status.",
            ["method", "route", "status"],
            **names,
        )
        self.seconds = Histogram(
            "http_request_seconds", "Time to the end of the answer.", ["route"], **names
        )
        self.received = Counter("received_bytes", "Bytes of files received.", **names)
        self.sent = Counter("sent_bytes", "Bytes of files sent.", **names)
        self.refused = Counter("refused_uploads", "Uploads refused by a check.", **names)
        self.registry.register(_Stored(service))  # type: ignore[arg-type]

    def text(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self.registry)


class _Stored:
    """Numbers that are read from the database when somebody asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._service.database.read() as session:
            jobs = dict(
                session.execute(select(Job.state, func.count()).group_by(Job.state)).tuples().all()
            )
            commits = dict(
                session.execute(select(Commit.status, func.count()).group_by(Commit.status))
                .tuples()
                .all()
            )
            repos = session.scalar(select(func.count()).select_from(Repo)) or 0
            published = session.scalar(select(func.count(Repo.published_id))) or 0
        for name, text, values in (
            ("adapterhub_jobs", "Checks by state.", jobs),
            ("adapterhub_commits", "Commits by status.", commits),
        ):
            family = GaugeMetricFamily(name, text, labels=["state"])
            for state, number in sorted(values.items()):
                family.add_metric([state], number)
            yield family
        yield GaugeMetricFamily("adapterhub_repositories", "Repositories.", value=repos)
        yield GaugeMetricFamily(
            "adapterhub_published_repositories", "Repositories that all may see.", value=published
        )
