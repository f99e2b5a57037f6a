"""python -m tests.chaos: the whole kill test, and one line of JSON in the end. Status 1 where anything was lost or doubled."""

from __future__ import annotations

import argparse
import json
import sys

from tests.chaos.parts import all_parts
from tests.chaos.run import run


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["real", "quick"], default="real")
    given = parser.parse_args()
    with all_parts() as parts:
        count = run(
            parts, jobs=given.jobs, kills=given.kills, seed=given.seed, engine=given.engine,
            say=lambda text: print(text, flush=True),
        )  # fmt: skip
    print(json.dumps(count.json()), flush=True)
    good = count.succeeded == count.objects == count.jobs
    return 0 if good and not (count.lost or count.doubled or count.unacked or count.dead_lettered or count.wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
