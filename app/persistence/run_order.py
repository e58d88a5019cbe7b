"""In which order the runs of a session are listed: as they have ended, and then those that have not."""

from app.persistence.records import RunRecord

__all__ = ["NOT_ENDED", "by_last_event"]

NOT_ENDED = 2**63 - 1  # stands for the id of an end that is still to come


def by_last_event(run: RunRecord) -> tuple[int, int, str]:
    """Return where `run` stands in its session: the id of its end, when it began or was asked for in microseconds, its id."""
    end = NOT_ENDED if run.finished_event_id is None else run.finished_event_id
    return end, round(run.started_at_s * 1e6), run.id
