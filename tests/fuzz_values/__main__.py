"""`python -m tests.fuzz_values --examples 5000`: many values, also through other processes, and how many were stored."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz_values.fuzzing import MACHINES, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_values", description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000)
    parser.add_argument("--processes", action="store_true", help="carry the action out in another process, too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(Path(folder), asked.examples, (*MACHINES, "put_process") if asked.processes else MACHINES)
    print(f"{found.accepted} values stored and shown again by a new process, {found.refused} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
