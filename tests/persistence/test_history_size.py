"""What a long chat costs on disk."""

from app.engine.operations import Append, Set
from app.persistence.urls import Sqlite, parse
from tests.persistence.making import new, opened, queried, step, step_commit

TURNS = 2000
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu")

PG_BYTES = (
    "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
)


def said(seed: int, length: int) -> str:
    """Text that is different everywhere, so that compression does not make the figure look better than that of real talk."""
    return " ".join(f"{WORDS[(seed * 7 + at * at) % 12]}{(seed * 7919 + at * 104729) % 9973}" for at in range(length))


async def bytes_on_disk(url: str) -> int:
    """What the database takes, with its indexes and everything."""
    if isinstance(parse(url), Sqlite):
        await queried(url, "VACUUM")
        return int(await queried(url, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"))
    await queried(url, "VACUUM")
    return int(await queried(url, PG_BYTES))


async def test_a_long_chat_takes_at_most_twice_its_content(database_url: str) -> None:
    history: list[dict[str, str]] = []
    content = 0
    async with opened(database_url) as store:
        empty = await bytes_on_disk(database_url)
        await store.create_session(new(state={"history": []}))
        for turn in range(TURNS):
            prompt, reply = said(2 * turn, 8), said(2 * turn + 1, 60)
            content += len(prompt) + len(reply)
            messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": reply})
            history = [*history, *messages]
            operations = (Append("history", messages[0]), Append("history", messages[1]), Set("reply", reply))
            made = step(turn, operations, {"history": history, "reply": reply}, result={"reply": reply})
            await store.commit(step_commit("s", made, run_id=f"01934f0e-7c1a-7000-8000-{turn:012d}"))
        assert (await store.load_session("s")).state == {"history": history, "reply": reply}
    stored = await bytes_on_disk(database_url) - empty
    print(f"{stored / content:.2f} times {content:,} bytes of content")
    assert stored <= 2 * content
