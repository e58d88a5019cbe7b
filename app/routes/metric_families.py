"""What a host and its HTTP interface show to Prometheus. Everything is counted elsewhere, and read when somebody asks.

Labels are names from the source, machines, actions, routes, statuses, never an id or a value: their number has an end.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.executors.notices import NoticeKind
from app.persistence.store_stats import StoreStats
from app.routes.http.limits import ConnectionStats
from app.routes.request_tally import BOUNDS_S, RequestTally
from app.sessions.claims import Claims
from app.sessions.host import SessionHost

__all__ = ["ConnectionFamilies", "HostFamilies", "RequestFamilies"]

Samples: TypeAlias = Iterable[tuple[Sequence[str], float]]
"""Values of the labels, and the value."""

_ALONE: Sequence[str] = ()


class HostFamilies(Collector):
    """Executors, event loop, sessions, runs and the store of one host."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host

    def describe(self) -> Iterable[Metric]:
        return ()  # else the registry would collect once to learn the names

    def collect(self) -> Iterator[Metric]:
        yield from self._pools()
        yield from self._actions()
        yield from self._loop()
        yield from self._sessions()
        yield from _store(self._host.store.stats())
        yield from _replicas(self._host.claims)

    def _pools(self) -> Iterator[Metric]:
        pools = self._host.executors.stats()

        def of(field: str) -> Samples:
            return [((pool.name,), getattr(pool, field)) for pool in pools]

        pool = ("pool",)
        yield _gauge("pool_size", "Calls that the pool carries out at once.", of("size"), pool)
        yield _gauge("pool_workers", "Threads, processes or threads of the cluster that it has now.", of("threads"), pool)
        yield _gauge("pool_busy", "Calls that are being carried out for somebody.", of("busy"), pool)
        yield _gauge("pool_queued", "Calls that wait for their turn.", of("queued"), pool)
        yield _gauge("pool_oldest_wait_seconds", "For how long the oldest of these has waited.", of("oldest_wait_s"), pool)
        yield _gauge("pool_abandoned", "Calls that nobody waits for any more and that go on.", of("abandoned"), pool)
        yield _gauge("pool_exhausted", "1 if these hold every thread that there may be.", of("is_exhausted"), pool)
        yield _counter("pool_calls", "Calls that were carried out.", of("calls"), pool)
        yield _counter("pool_wait_seconds", "Time that they waited for their turn.", of("waited_s"), pool)
        yield _counter("pool_work_seconds", "Time that they took.", of("worked_s"), pool)
        yield _counter("pool_late_results", "Results of abandoned calls, dropped.", of("late_results"), pool)
        yield _counter("pool_replaced", "Workers started in the place of others.", of("replaced"), pool)
        yield _counter("pool_refused", "Calls refused with 503.", of("refused"), pool)
        yield _counter("pool_died", "Workers that ended by themselves.", of("died"), pool)

    def _actions(self) -> Iterator[Metric]:
        figures = self._host.executors.figures()
        labels = ("machine", "action")

        def of(field: str) -> Samples:
            return [((machine, action), getattr(each, field)) for machine, action, _, each in figures]

        rungs = [((machine, action, rung), 1.0) for machine, action, rung, _ in figures]
        yield _gauge("action_executor", "1 for where a sync action runs now.", rungs, (*labels, "executor"))
        yield _counter("action_calls", "Calls of a sync action.", of("calls"), labels)
        yield _counter("action_wall_seconds", "Time that they took.", of("wall_s"), labels)
        yield _counter("action_cpu_seconds", "CPU time that they used.", of("cpu_s"), labels)
        yield _counter("action_cpu_bound_calls", "Those that mostly computed.", of("cpu_bound_calls"), labels)
        told = Counter(
            (notice.kind.value, notice.machine or "", notice.action or "")
            for notice in self._host.executors.notices()
            if notice.kind is not NoticeKind.LOOP_BLOCKED
        )
        yield _gauge("action_warnings", "What was told about an action, once each.", told.items(), ("kind", "machine", "action"))

    def _loop(self) -> Iterator[Metric]:
        stats = self._host.executors.loop_stats()
        if stats is None:
            return
        yield _gauge("loop_lag_seconds", "How late the event loop was when it was asked last.", _one(stats.last_lag_s))
        yield _gauge("loop_lag_max_seconds", "How late it has been at worst.", _one(stats.longest_lag_s))
        yield _counter("loop_probes", "How often it was asked.", _one(stats.probes))
        yield _counter("loop_late", "How often it was later than the budget.", _one(stats.late))
        yield _counter("loop_starved", "How often that was for computing threads or a busy machine.", _one(stats.starved))
        stalls: Counter[tuple[str, str, str]] = Counter()
        seconds: Counter[tuple[str, str, str]] = Counter()
        for notice in self._host.executors.notices():
            if notice.kind is NoticeKind.LOOP_BLOCKED:
                place = f"{notice.details['file']}:{notice.details['line']}"
                key = (notice.machine or "", notice.action or "", place)
                stalls[key] += notice.details["count"]
                seconds[key] += notice.details["total_s"]
        labels = ("machine", "action", "place")
        yield _counter("loop_stalls", "How often a place has held the event loop.", stalls.items(), labels)
        yield _counter("loop_stall_seconds", "For how long.", seconds.items(), labels)

    def _sessions(self) -> Iterator[Metric]:
        late = self._host.runs.late
        yield _gauge("late_actions", "Async actions that go on although their run is over.", [(_ALONE, len(late))])
        yield _counter(
            "late_actions_left", "Async actions that were left behind when they did not end.", [(_ALONE, late.left_behind)]
        )
        host = self._host
        machine = ("machine",)
        none = dict.fromkeys(((name,) for name in host.machines), 0)
        live = Counter((each.machine.name,) for each in host.residents)
        active = Counter((run.live.machine.name,) for run in host.runs)
        steps = {(name,): count for name, count in host.runs.tally.steps(host.runs).items()}
        ended = host.runs.tally.ended
        yield _gauge("sessions_live", "Sessions in memory.", (none | live).items(), machine)
        yield _gauge("runs_active", "Runs under way.", (none | active).items(), machine)
        yield _counter("runs_ended", "Runs that have ended here.", ended.items(), ("machine", "status", "reason"))
        yield _counter("steps_committed", "Steps that runs have committed here.", (none | steps).items(), machine)
        yield _gauge("followers", "Event streams that are being followed.", _one(host.residents.followers))
        yield _gauge("draining", "1 while the service comes to its end.", _one(host.is_draining))


class ConnectionFamilies(Collector):
    """Connections of the server, if it is one that counts them."""

    def __init__(self, connections: ConnectionStats) -> None:
        self._connections = connections

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        stats = self._connections
        yield _gauge("connections_open", "Connections that are open.", [(_ALONE, stats.open)])
        if stats.limit is not None:
            yield _gauge("connections_limit", "Connections that may be open at once.", [(_ALONE, stats.limit)])
        refused = [((reason,), float(count)) for reason, count in stats.refused.items()]
        yield _counter("connections_refused", "Connections refused or cut off, by reason.", refused, ("reason",))


class RequestFamilies(Collector):
    """What an HTTP interface has answered."""

    def __init__(self, tally: RequestTally) -> None:
        self._tally = tally

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        answers = [((method, route, str(status)), count) for (method, route, status), count in self._tally.answers().items()]
        yield _counter("http_requests", "Requests by their answers.", answers, ("method", "route", "status"))
        family = HistogramMetricFamily(
            "stepwell_http_request_duration_seconds", "Time until an answer began.", labels=("method", "route")
        )
        bounds = [*map(str, BOUNDS_S), "+Inf"]
        for labels, latency in self._tally.latencies().items():
            family.add_metric(labels, list(zip(bounds, accumulate(latency.counts), strict=True)), latency.total_s)
        yield family


def _replicas(claims: Claims) -> Iterator[Metric]:
    yield _gauge("replicas", "Replicas that live, with this one.", _one(claims.living))
    yield _gauge("replicas_late", "Other replicas that live, and whose event loop does not turn.", _one(len(claims.late)))


def _store(stats: StoreStats) -> Iterator[Metric]:
    yield _counter("commit_transactions", "Transactions of the group commit.", _one(stats.flushes))
    yield _counter("commits", "Commits that went into them.", _one(stats.commits))
    yield _gauge("commits_waiting", "Commits that go with the next transaction.", _one(stats.waiting))
    if stats.wal_bytes is not None:
        yield _gauge("wal_bytes", "Size of SQLite's write-ahead log.", _one(stats.wal_bytes))
    pools = stats.pools.items()
    pool = ("pool",)
    yield _gauge("database_pool_size", "Connections that there may be.", [((name,), each.size) for name, each in pools], pool)
    yield _gauge("database_pool_open", "Connections that there are.", [((name,), each.open) for name, each in pools], pool)
    yield _gauge("database_pool_in_use", "Connections in use.", [((name,), each.in_use) for name, each in pools], pool)


def _one(value: float) -> Samples:
    return [(_ALONE, value)]


def _gauge(name: str, help_text: str, samples: Samples, labels: Sequence[str] = _ALONE) -> Metric:
    family = GaugeMetricFamily(f"stepwell_{name}", help_text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, help_text: str, samples: Samples, labels: Sequence[str] = _ALONE) -> Metric:
    family = CounterMetricFamily(f"stepwell_{name}", help_text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
