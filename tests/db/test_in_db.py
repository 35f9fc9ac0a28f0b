"""Calls on the threads of the ORM leave nothing behind that changes later calls."""

from __future__ import annotations

import asyncio

import pytest
from django.db import transaction

from sessions_app.db import in_db_on_spare_thread
from sessions_app.models import ChatSession
from tests.db.session_states import open_session


@pytest.mark.django_db(transaction=True)
def test_what_a_thread_writes_is_committed_even_after_a_transaction_that_could_not_be_ended() -> None:
    async def main() -> None:
        # There is one spare thread, so both calls have the same connection.
        await in_db_on_spare_thread(transaction.set_autocommit, False)
        await in_db_on_spare_thread(open_session, session_id="later")

    asyncio.run(main())
    assert ChatSession.objects.filter(pk="later").exists()
