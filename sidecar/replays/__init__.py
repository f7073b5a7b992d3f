"""Answers that are given again without being decided again, for as long as what they rest on holds.

The pipeline decides; this only remembers, and only what the pipeline gave grounds for. Nothing in here reads
HTTP or judges a request. What is kept is a sum and no product: a request's URL leads to its rule, the rest
of its head to what the head means, and the two together to the bytes of an answer.

A head is found in two ways. Byte for byte, but for the URL in it: the same bytes mean the same thing. Or,
when the parser has read it, by those of its lines that a check reads at all.
"""

from __future__ import annotations

from sidecar.replays.heads import Head, ReadHead
from sidecar.replays.kept import Answer, Reading, Table
from sidecar.replays.memory import Replayable, Replays

__all__ = ["Answer", "Head", "ReadHead", "Reading", "Replayable", "Replays", "Table"]
