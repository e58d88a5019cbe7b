"""`python -m benchmarks [NAME …]`: run all benchmarks, or those that are named."""

import sys
from importlib import import_module

# name → module with a `main()`; in the order in which they run
BENCHMARKS = {
    "engine": "benchmarks.engine_step",
    "start": "benchmarks.engine_start",
    "requests": "benchmarks.request_rate",
    "health": "benchmarks.health_latency",
    "memory": "benchmarks.memory",
    "group_commit": "benchmarks.group_commit",
    "history": "benchmarks.history_cost",
    "loop": "benchmarks.loop_health",
    "history_cost": "benchmarks.history_cost",
}


def run(names: list[str]) -> int:
    """Run the benchmarks called `names` (all of them if empty); return the exit code."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        sys.argv = [name]  # a benchmark that can also run alone reads its own arguments
        import_module(BENCHMARKS[name]).main()
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
