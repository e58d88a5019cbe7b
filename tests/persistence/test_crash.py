"""A process that is killed in the middle of commits: what it was told is stored is there, once."""

import subprocess
import sys
from pathlib import Path

from tests.persistence.making import opened

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 50


def commits_until_killed(url: str, after: int) -> list[tuple[str, int]]:
    """Let a process commit; kill it with -9 once it has reported so many. Return all that it reported."""
    command = [sys.executable, "-m", "tests.persistence.committing_child", url, str(SESSIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(after)]
        child.kill()
        lines += child.stdout.readlines()
    complete = [line.split() for line in lines if line.endswith("\n")]
    return [(session_id, int(seq)) for session_id, seq in complete]


async def test_what_was_acknowledged_before_a_kill_is_there_once(database_url: str) -> None:
    acknowledged: set[tuple[str, int]] = set()
    for after in (1, 137, 711, 1400):
        reported = commits_until_killed(database_url, after)
        assert len(reported) >= after
        assert not acknowledged & set(reported)  # a step that is stored is not done again
        acknowledged |= set(reported)
    async with opened(database_url) as store:
        stored: set[tuple[str, int]] = set()
        for number in range(SESSIONS):
            session_id = f"s{number}"
            loaded = await store.load_session(session_id)
            seqs = [found.seq for found in await store.list_steps(session_id, limit=100_000)]
            assert seqs == list(range(loaded.record.seq + 1))
            assert loaded.state == {"n": len(seqs), "log": [f"step {seq} of {session_id}" for seq in seqs]}
            runs = await store.list_runs(session_id, limit=100_000)
            assert [run.id for run in runs] == [f"{session_id} {seq}" for seq in seqs]
            stored |= {(session_id, seq) for seq in seqs}
        assert list(await store.unfinished_runs()) == []
    assert acknowledged <= stored
