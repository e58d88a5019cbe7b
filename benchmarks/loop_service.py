"""The service with machines that treat its loop badly. Run as a process of its own.

`python -m benchmarks.loop_service SETTINGS`, with settings as a JSON object, prints its address first.
"""

import json
import sys
import warnings

from app.logging_setup import set_up_logging
from app.main import create_app
from app.serving import address_of, listen, serve
from app.sessions.loading import load_machines
from app.settings import read_settings

MACHINES = (
    "counting",
    "sleeping",
    "computing_in_threads",
    "computing_in_auto",
    "computing_in_processes",
    "computing_on_dask",
    "blocking",
    "filling",
)


def main(settings_json: str) -> None:
    specs = tuple(f"benchmarks.loop_machines:{name}" for name in MACHINES)
    settings = read_settings(machines=specs, log_level="error", **json.loads(settings_json))
    set_up_logging(settings.log_level, settings.log_format)
    warnings.simplefilter("ignore")  # the warnings are the point of the machines, but not of the table
    app = create_app(settings, load_machines(settings.machines))
    with listen("127.0.0.1", 0) as listener:
        url = address_of(listener)
        serve(app, listener, grace_s=0, ready=lambda: print(url, flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
