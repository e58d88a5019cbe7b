"""The one statement that writes a wave on PostgreSQL, and the one that looks whether it was written.

A wave is a single statement, and so a transaction of its own, sent and answered in one round trip: sessions move in one
common table expression, and the rows of those that moved go into their tables in others. Rows arrive as arrays, one for each
column, in the order of `wave_rows`. Parts that a wave does not have are left out; there are few combinations, and each is
prepared once.
"""

from functools import cache

from app.persistence.wave_rows import (
    DETAIL_COLUMNS,
    END_COLUMNS,
    FAILURE_COLUMNS,
    KEY_COLUMNS,
    MOVE_COLUMNS,
    NEW_SESSION_COLUMNS,
    RUN_END_COLUMNS,
    RUN_KEY,
    RUN_START_COLUMNS,
    STEP_COLUMNS,
)
from app.persistence.wave_sql import RUN_IS_THERE

__all__ = ["LANDED_CREATES", "LANDED_MOVES", "PARTS", "write_statement"]

# part of a wave -> columns of its rows
PARTS: dict[str, tuple[str, ...]] = {
    "new_sessions": NEW_SESSION_COLUMNS,
    "new_labels": ("label",),
    "new_keys": KEY_COLUMNS,
    "details": DETAIL_COLUMNS,
    "ends": END_COLUMNS,
    "moves": MOVE_COLUMNS,
    "labels": ("label",),
    "steps": STEP_COLUMNS,
    "snapshots": ("seq", "state"),
    "failures": FAILURE_COLUMNS,
    "run_starts": (*RUN_START_COLUMNS, RUN_KEY),
    "run_ends": RUN_END_COLUMNS,
    "stepped_runs": ("id",),
    "keys": KEY_COLUMNS,
}

_BLOBS = {
    "answer",
    "digest",
    "ended_run",
    "error",
    "label",
    "metadata",
    "parameters",
    "payload",
    "request",
    "run_key",
    "state",
    "webhook",
}
_TIMES = {"created_at", "expires_at", "finished_at", "started_at", "ttl_s", "updated_at", "webhook_at"}
_NUMBERS = {
    "claim_no",
    "event_id",
    "expected_seq",
    "finished_event_id",
    "first_event_id",
    "key",
    "last_event_id",
    "log_bytes",
    "parent_seq",
    "place",
    "seq",
    "snapshot_at",
    "snapshot_seq",
    "started_event_id",
    "steps",
}

_CREATE = """
new_sessions AS (SELECT * FROM {rows}),
made AS (
    INSERT INTO sessions (id, machine, machine_version, partition_key, metadata, status, seq, prior_action, next_action,
        created_at, parent_session_id, parent_seq, last_event_id, snapshot_at, claimed_by, ttl_s, expires_at, updated_at,
        base_seq, snapshot_seq, log_bytes)
    SELECT id, machine, machine_version, partition_key, metadata, status, seq, prior_action, next_action, created_at,
        parent_session_id, parent_seq, last_event_id, snapshot_at, claimed_by, ttl_s, expires_at, created_at, seq, seq, 0
    FROM new_sessions ORDER BY place
    ON CONFLICT (id) DO NOTHING RETURNING id, key
),
created AS (SELECT place, made.key, seq, state FROM made JOIN new_sessions USING (id)),
first_states AS (INSERT INTO snapshots (session_key, seq, state) SELECT key, seq, state FROM created)
"""
_LABEL = (
    "labelled AS (INSERT INTO labels (label, session_key) SELECT r.label, created.key FROM {rows} JOIN created USING (place))"
)
# a key that is taken refuses its session, and then all is tried again one by one
_NEW_KEY = """
new_keyed AS (
    INSERT INTO keys (session_key, digest, request, run_id, answer, created_at)
    SELECT created.key, r.digest, r.request, r.run_id, r.answer, r.created_at FROM {rows} JOIN created USING (place)
)
"""
# looked up one by one: a planner never reads a whole table for a scalar subquery
_ENDS = """
contradicted AS (
    SELECT r.place FROM {rows}
    WHERE (SELECT 1 FROM runs WHERE runs.id = r.id AND runs.finished_event_id <> r.finished_event_id LIMIT 1) IS NOT NULL
        OR (SELECT 1 FROM steps WHERE steps.ended_run = r.run_key LIMIT 1) IS NOT NULL
)
"""
_UNCONTRADICTED = """
        AND NOT EXISTS (SELECT FROM contradicted AS c WHERE c.place = r.place)"""
_MOVE = """
moved AS (
    UPDATE sessions AS s SET
        seq = coalesce(r.seq, s.seq),
        status = coalesce(r.status, s.status),
        prior_action = coalesce(r.prior_action, s.prior_action),
        next_action = CASE WHEN r.seq IS NULL THEN s.next_action ELSE r.next_action END,
        updated_at = greatest(s.updated_at, r.updated_at),
        last_event_id = greatest(s.last_event_id, r.last_event_id),
        log_bytes = s.log_bytes + r.log_bytes,
        snapshot_seq = coalesce(r.snapshot_seq, s.snapshot_seq),
        snapshot_at = coalesce(r.snapshot_at, s.snapshot_at){changes}
    FROM {rows}
    WHERE s.id = r.id
        AND (r.expected_seq IS NULL OR s.seq = r.expected_seq)
        AND (r.key IS NULL OR s.key = r.key)
        AND (r.snapshot_seq IS NULL OR s.snapshot_seq < r.snapshot_seq)
        AND (r.status IS NULL OR {claimant} IS NULL OR s.claimed_by = {claimant})
        AND (r.claim_no IS NULL OR s.claim_no = r.claim_no){uncontradicted}
    RETURNING r.place, s.key, s.log_bytes, s.snapshot_at
)
"""
_DETAILS = "details AS (SELECT * FROM {rows})"
_CHANGES = """,
        metadata = CASE WHEN d.place IS NULL THEN s.metadata ELSE d.metadata END,
        partition_key = CASE WHEN d.place IS NULL THEN s.partition_key ELSE d.partition_key END,
        ttl_s = CASE WHEN d.place IS NULL THEN s.ttl_s ELSE d.ttl_s END,
        expires_at = CASE WHEN d.place IS NULL THEN s.expires_at ELSE d.expires_at END"""
# what is there already stays: one statement cannot delete a row and insert it again
_LABELS = """
labels_now AS (SELECT moved.key, r.label FROM {rows} JOIN moved USING (place)),
labels_in AS (INSERT INTO labels (label, session_key) SELECT label, key FROM labels_now ON CONFLICT DO NOTHING)
"""
_UNLABEL = """
unlabelled AS (
    DELETE FROM labels AS l USING moved JOIN details USING (place) WHERE l.session_key = moved.key{but}
)
"""
_BUT_THOSE_NOW = " AND NOT EXISTS (SELECT FROM labels_now AS n WHERE n.key = l.session_key AND n.label = l.label)"
_END_RUNS = """
ended AS (
    UPDATE runs SET status = r.status, finished_at = r.finished_at, steps = r.steps, reason = r.reason, error = r.error,
        finished_event_id = r.finished_event_id
    FROM {rows} JOIN moved USING (place)
    WHERE runs.id = r.id AND runs.session_key = moved.key AND runs.finished_at IS NULL
)
"""
_START_RUNS = """
started AS (
    INSERT INTO runs (session_key, {names}) SELECT moved.key, {names_of_r} FROM {rows} JOIN moved USING (place)
    WHERE NOT EXISTS (SELECT FROM steps WHERE ended_run = r.run_key){clash}
)
"""
_DROP_RUNS = """
dropped AS (
    DELETE FROM runs USING {rows} JOIN moved USING (place) WHERE runs.id = r.id AND runs.session_key = moved.key
)
"""
_INSERT = """
{part}_in AS (
    INSERT INTO {table} (session_key, {names}) SELECT moved.key, {names_of_r} FROM {rows} JOIN moved USING (place){clash}
)
"""
# what is there already is the same, handed in again
_CLASHES = {
    "failures": " ON CONFLICT DO NOTHING",
    "keys": " ON CONFLICT DO NOTHING",
}
_RESULTS = {
    "new_sessions": "SELECT TRUE AS is_new, place, key, 0::bigint AS log_bytes, 1::bigint AS snapshot_at FROM created",
    "moves": "SELECT FALSE AS is_new, place, key, log_bytes, snapshot_at FROM moved",
}

# what of a wave is stored? a step is told by its event id, and the end of a run; without either, the session has got as far
LANDED_MOVES = """
SELECT m.place, s.key, s.log_bytes, s.snapshot_at
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::bigint[])
    AS m (place, id, last_event_id, claim_no, seq, event_id, ended_run, end_id)
JOIN sessions AS s ON s.id = m.id
WHERE CASE
    WHEN m.seq IS NOT NULL
        THEN EXISTS (SELECT FROM steps AS t WHERE t.session_key = s.key AND t.seq = m.seq AND t.event_id = m.event_id)
    WHEN m.ended_run IS NOT NULL
        THEN EXISTS (SELECT FROM runs WHERE runs.id = m.ended_run AND runs.session_key = s.key AND finished_event_id = m.end_id)
    ELSE s.last_event_id >= m.last_event_id AND ($9::text IS NULL OR s.claimed_by = $9)
        AND (m.claim_no IS NULL OR s.claim_no = m.claim_no) END
"""
LANDED_CREATES = """
SELECT n.place FROM unnest($1::bigint[], $2::text[], $3::float8[]) AS n (place, id, created_at)
JOIN sessions AS s ON s.id = n.id AND s.created_at = n.created_at
"""


@cache
def write_statement(parts: tuple[str, ...]) -> str:
    """Return the statement for a wave that has these parts, of PARTS and in its order.

    Its parameters are, for each part, the array of places and then one array for each column; and, if there are moves, the
    claimant: sessions that another one has claimed do not move.
    """
    expressions: list[str] = []
    first = 1
    last = 1 + sum(1 + len(PARTS[part]) for part in parts)
    for part in parts:
        names = ("place", *PARTS[part])
        arrays = ", ".join(f"${first + offset}::{_type(name)}[]" for offset, name in enumerate(names))
        expressions.append(_effect(part, f"unnest({arrays}) AS r ({', '.join(names)})", f"${last}::text", parts))
        first += len(names)
    if "details" in parts:
        expressions.append(_UNLABEL.format(but=_BUT_THOSE_NOW if "labels" in parts else ""))
    results = " UNION ALL ".join(result for part, result in _RESULTS.items() if part in parts)
    return f"WITH {', '.join(expressions)} {results}"


def _effect(part: str, rows: str, claimant: str, parts: tuple[str, ...]) -> str:
    match part:
        case "new_sessions":
            return _CREATE.format(rows=rows)
        case "new_labels":
            return _LABEL.format(rows=rows)
        case "new_keys":
            return _NEW_KEY.format(rows=rows)
        case "details":
            return _DETAILS.format(rows=rows)
        case "ends":
            return _ENDS.format(rows=rows)
        case "moves":
            if "details" in parts:
                rows = f"{rows} LEFT JOIN details AS d USING (place)"
            changes = _CHANGES if "details" in parts else ""
            uncontradicted = _UNCONTRADICTED if "ends" in parts else ""
            return _MOVE.format(rows=rows, claimant=claimant, changes=changes, uncontradicted=uncontradicted)
        case "labels":
            return _LABELS.format(rows=rows)
        case "run_ends":
            return _END_RUNS.format(rows=rows)
        case "stepped_runs":
            return _DROP_RUNS.format(rows=rows)
        case "run_starts":
            names = ", ".join(RUN_START_COLUMNS)
            names_of_r = ", ".join(f"r.{name}" for name in RUN_START_COLUMNS)
            return _START_RUNS.format(names=names, names_of_r=names_of_r, rows=rows, clash=RUN_IS_THERE)
    return _INSERT.format(
        part=part,
        table=part,
        names=", ".join(PARTS[part]),
        names_of_r=", ".join(f"r.{name}" for name in PARTS[part]),
        rows=rows,
        clash=_CLASHES.get(part, ""),
    )


def _type(name: str) -> str:
    if name in _BLOBS:
        return "bytea"
    if name in _TIMES:
        return "float8"
    return "bigint" if name in _NUMBERS else "text"
