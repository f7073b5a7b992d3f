"""The curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.report import Curve

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "performance.svg"


def draw(curves: Sequence[Curve], file: Path) -> None:
    """Writes the picture, one field a curve. Raises ImportError without matplotlib."""
    from matplotlib import rc_context  # noqa: PLC0415 - an extra; the tables need none
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    # The same curves make the same file, and its letters are letters.
    with rc_context({"svg.hashsalt": "bench", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        fields = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for field, curve in zip(fields, curves, strict=True):
            for name, points in (("sidecar", curve.sidecar), ("nginx return 204", curve.nginx)):
                field.plot(list(points), list(points.values()), marker="o", label=name)
            field.set(xscale="log", xlabel=curve.of)
        fields[0].set_ylim(bottom=0)  # of all of them, and so after the last
        fields[0].set_ylabel("CPU µs a check")
        fields[0].legend(frameon=False)
        figure.savefig(file, metadata={"Date": None})
