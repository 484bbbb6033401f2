"""How long `drpo --help` and `import drpo` take, in fresh processes.

`python -m benchmarks.startup [--repeats 7]`
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import drpo": ["-c", "import drpo"],
    "drpo --help": ["-m", "drpo", "--help"],
    "drpo runs": ["-m", "drpo", "runs", "--runs", "no-such-folder"],
}


def seconds(arguments: list[str]) -> float:
    """Of one fresh process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Prints a line a command; the first, uncounted round warms the disk cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(f"{'':>16} median s  fastest s")
    rounds = [[seconds(words) for words in COMMANDS.values()] for _ in range(repeats + 1)][1:]
    for name, taken in zip(COMMANDS, zip(*rounds, strict=True), strict=True):
        print(f"{name:>16} {statistics.median(taken):>8.3f} {min(taken):>10.3f}")


if __name__ == "__main__":
    main()
