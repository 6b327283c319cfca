"""Any function at many points: in chunks, over all devices and processes, resumable bit for bit."""

from superpose.sweep.chunks import clear, clear_leftovers, lock
from superpose.sweep.sweep import MEMORY, grid, label, over, result, run

__all__ = ["MEMORY", "clear", "clear_leftovers", "grid", "label", "lock", "over", "result", "run"]
