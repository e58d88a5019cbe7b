"""`python -m benchmarks [--record] [NAME …]`: run all benchmarks, or those that are named.

With `--record` what they print also goes into `docs/performance.md`.
"""

import sys
from contextlib import nullcontext
from importlib import import_module

from benchmarks.recording import recorded

# name → module with a `main()`; in the order in which they run
BENCHMARKS = {
    "engine": "benchmarks.engine_step",
    "start": "benchmarks.engine_start",
    "requests": "benchmarks.request_rate",
    "replicas": "benchmarks.replicas",
    "health": "benchmarks.health_latency",
    "memory": "benchmarks.memory",
    "group_commit": "benchmarks.group_commit",
    "history_cost": "benchmarks.history_cost",
    "many_sessions": "benchmarks.many_sessions",
    "loop": "benchmarks.loop_health",
    "gil": "benchmarks.gil_turns",
}


def run(arguments: list[str]) -> int:
    """Run the benchmarks that are named (all of them if none is); return the exit code."""
    names = [argument for argument in arguments if argument != "--record"]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    with recorded() if "--record" in arguments else nullcontext():
        for name in names or BENCHMARKS:
            sys.argv = [name]  # a benchmark that can also run alone reads its own arguments
            import_module(BENCHMARKS[name]).main()
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
