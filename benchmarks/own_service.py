"""The measured service: Stepwell as it is, with one route more that does nothing. Run as a process of its own.

`python -m benchmarks.own_service DATABASE_URL` prints its address first. `POST /noop` is a plain FastAPI route of the same
application, and so passes through the same server, middleware and router as every other.
"""

import sys

from app.logging_setup import set_up_logging
from app.main import create_app
from app.serving import address_of, listen, serve
from app.sessions.loading import load_machines
from app.settings import read_settings
from benchmarks.chat_ways import WAYS, machine_path

MACHINES = (
    *(f"benchmarks.machines:{name}" for name in ("counting", "blocking", "waiting")),
    *(machine_path(name) for name in WAYS),
)


async def noop() -> dict[str, str]:
    return {"status": "ok"}


def main(database_url: str) -> None:
    settings = read_settings(machines=MACHINES, database_url=database_url, log_level="error", max_live_sessions=20_000)
    set_up_logging(settings.log_level, settings.log_format)
    with listen("127.0.0.1", 0) as listener:
        url = address_of(listener)
        app = create_app(settings, load_machines(settings.machines), url)
        app.post("/noop")(noop)
        serve(app, listener, grace_s=0, ready=lambda: print(url, flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
