"""How much of a shared limit one caller may hold."""

from __future__ import annotations


def caller_limit(limit: int, *, in_use: int, fixed: int) -> int:
    """What one caller may hold of ``limit`` places of which ``in_use`` are taken, its own among them.

    ``fixed`` is an operator's setting. With 0 a caller may hold as many as are still free: a single caller gets half of
    all, two greedy ones a third each, and there is always room for the next caller.
    """
    return fixed or max(1, limit - in_use)
