"""Whether Redis answers, for ``/ready``."""

from __future__ import annotations

import asyncio

import redis
import redis.asyncio
from django.conf import settings

ANSWER_SECONDS = 1.0


async def broker_answers() -> bool:
    """True also where there is none: the queue is in this process then. Never raises."""
    if not settings.REDIS_URL:
        return True
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # A connection of its own each time: a client shared between event loops fails on the second.
            async with redis.asyncio.Redis.from_url(settings.REDIS_URL, driver_info=None) as client:
                await client.ping()
    except (redis.RedisError, OSError, TimeoutError):
        return False
    return True
