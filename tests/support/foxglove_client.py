# SPDX-License-Identifier: Apache-2.0
"""A viewer for tests: the client's side of the Foxglove WebSocket protocol (subprotocol foxglove.sdk.v1)."""

import asyncio
import json
import struct

import pytest


def watch(address, topics, *, limit_s=20.0, after_subscribed=lambda: None):
    """Return (advertised channels by topic, first message of each of these topics as bytes)."""
    aiohttp = pytest.importorskip("aiohttp", reason="no aiohttp for the client of this test")

    async def run():
        channels, found, wanted = {}, {}, dict(enumerate(topics, start=1))
        async with aiohttp.ClientSession() as session, session.ws_connect(
            address, protocols=["foxglove.sdk.v1"]
        ) as socket:  # fmt: skip
            asked = set()
            while len(found) < len(topics):
                message = await socket.receive(timeout=limit_s)
                if message.type == aiohttp.WSMsgType.BINARY:
                    code, number, _ = struct.unpack_from("<BIQ", message.data)
                    if code == 1:
                        found.setdefault(wanted[number], message.data[13:])
                    continue
                assert message.type == aiohttp.WSMsgType.TEXT, message
                content = json.loads(message.data)
                if content["op"] == "advertise":
                    channels |= {channel["topic"]: channel for channel in content["channels"]}
                for number, topic in wanted.items():
                    if topic in channels and number not in asked:
                        asked.add(number)
                        entry = {"id": number, "channelId": channels[topic]["id"]}
                        await socket.send_json({"op": "subscribe", "subscriptions": [entry]})
                        after_subscribed()
        return channels, found

    return asyncio.run(asyncio.wait_for(run(), limit_s))
