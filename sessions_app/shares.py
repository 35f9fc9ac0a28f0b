"""How much of what all callers share one of them may hold."""

from __future__ import annotations


def most_for_one(limit: int, *, in_use: int, fixed: int) -> int:
    """What one caller may hold of ``limit`` places of which ``in_use`` are taken, its own among them.

    ``fixed`` is an operator's number. Without one (0) it is as many as are still free: a caller alone gets half of all,
    two greedy ones a third each, and there is always room for whoever comes next.
    """
    return fixed or max(1, limit - in_use)
