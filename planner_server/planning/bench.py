"""`python -m planner_server.planning.bench`: how good and how fast the planners are, against the published search.

The measurement lives in `benchmarks.planning`, because it makes its problems with the simulator, which the service
knows nothing of. It needs a checkout of the repository and everything that `make setup` installs.
"""

from __future__ import annotations

import importlib
import sys


def main() -> int:
    """Run the benchmark of the checkout in the working directory; see `--help`."""
    sys.path.insert(0, "")
    try:
        bench = importlib.import_module("benchmarks.planning.__main__")
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"error: {error}. Run this in a checkout of the repository, after `make setup`\n"
        )
        return 2
    return int(bench.main())


if __name__ == "__main__":
    sys.exit(main())
