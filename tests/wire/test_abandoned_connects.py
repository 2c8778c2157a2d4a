"""A connection to the app that is given up while it is being made leaves nothing behind, whenever that is.

uvloop closes a connection whose `create_connection` is cancelled in the turn after `connection_made` without a
`connection_lost`.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import bench
from tests.support.peer import XHR_LINE
from tests.support.waiting import until


@pytest.mark.parametrize("turns", range(8))
async def test_connection_given_up_is_not_counted_as_open(turns):
    async with bench() as b:
        opening = asyncio.ensure_future(b.gateway.pool.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:
            opening.result().abort()
        await none_is_open(b)


async def test_client_that_leaves_while_the_app_is_connected_to_leaves_no_connection():
    async with bench() as b:
        for _ in range(50):
            peer = await b.connect()
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + XHR_LINE + b"\r\n")
            peer.reset()
        await b.settled()
        assert (await b.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).status == 200
        b.gateway.pool.close()
        await none_is_open(b)


async def none_is_open(b) -> None:
    await until(lambda: not b.gateway.stats.upstream_connections)
