"""Whether Redis answers, for ``/ready``."""

from __future__ import annotations

import asyncio

import redis
import redis.asyncio
from django.conf import settings

ANSWER_SECONDS = 1.0


async def broker_answers() -> bool:
    """Whether Redis answers; True without Redis, because the queue is then in this process. Never raises."""
    if not settings.REDIS_URL:
        return True
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # A new connection each time: a client that is shared between event loops fails on the second loop.
            async with redis.asyncio.Redis.from_url(settings.REDIS_URL, driver_info=None) as client:
                await client.ping()
    except (redis.RedisError, OSError, TimeoutError):
        return False
    return True
