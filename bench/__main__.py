"""Measures all of it, or some parts, in one run on this machine; nothing stays but the results."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from bench.machine import CannotMeasure
from bench.parts import PARTS
from bench.picture import PICTURE, draw
from bench.report import RESULTS, TABLES, Part, printed, write
from bench.workbench import Workbench, say

BUSY = 0.7
"""The load average above which others take part of the cores."""


@click.command(epilog=f"The parts: {', '.join(PARTS)}.")
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]...")
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often each is asked."
)
@click.option(
    "--seconds", type=click.IntRange(1), default=2, show_default=True, help="For how long each time."
)
def main(parts: tuple[str, ...], rounds: int, seconds: int) -> None:
    """Print the tables of all parts, or of these, and write them to bench/results.json.

    Exit status 1 where it could not measure.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        measured = _measure(parts or list(PARTS), rounds, seconds)
    except CannotMeasure as error:
        sys.exit(f"bench: {error}")
    write(measured)
    say(f"Written to {RESULTS} and {TABLES}")
    _draw(measured)


def _measure(names: Sequence[str], rounds: int, seconds: int) -> list[Part]:
    if os.getloadavg()[0] > BUSY:
        say("This machine is busy with something else, which makes all figures worse")
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as folder:
        bench = Workbench(Path(folder), rounds, seconds)
        measured = []
        for name in names:
            measured.append(PARTS[name](bench))
            if tables := printed(measured[-1:]):
                print(tables, end="\n\n", flush=True)
        return measured


def _draw(parts: Sequence[Part]) -> None:
    curves = [curve for part in parts for curve in part.curves]
    if not curves:
        return
    try:
        draw(curves, PICTURE)
    except ImportError:
        say("No picture: matplotlib is not installed (pip install auth-sidecar[bench])")
    else:
        say(f"Drawn in {PICTURE}")


def _end(number: int, _frame: FrameType | None) -> None:
    """Ends what was started on the way out, undisturbed by a second signal."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
