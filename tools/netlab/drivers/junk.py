# SPDX-License-Identifier: Apache-2.0
"""Publishes by WHIP as an honest client, then sends junk under its own valid SRTP keys.

usage: junk.py ORIGIN ROOM NAME PACKETS RATE SEED
Prints "ready" once media flows; sends the junk when a line arrives on stdin; prints one JSON line with the counts,
then leaves when stdin ends. Authentication protects against strangers, not against a participant who is hostile.
"""

import asyncio
import json
import random
import struct
import sys

import aiohttp
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from yarl import URL

FIXED = bytes.fromhex("906000010000000000000001bede00011f1f1f1f1f")


class Junk:
    """Makes RTP and RTCP that is well enough formed to be protected, and wrong in every other way."""

    def __init__(self, seed, senders):
        self.random = random.Random(seed)
        self.senders = senders

    def rtp(self):
        """A known or an unknown SSRC, any payload type, any sequence number, an extension that lies, any payload."""
        pick = self.random
        ssrc = pick.choice([sender._ssrc for sender in self.senders] + [pick.getrandbits(32)])
        first = pick.choice([0x80, 0x90, 0xA0, 0xB0])
        header = struct.pack("!BBHII", first, pick.randrange(96, 128), pick.getrandbits(16), pick.getrandbits(32), ssrc)
        if first & 0x10:
            words = pick.randrange(0, 8)
            header += struct.pack("!HH", pick.choice([0xBEDE, 0x1000, pick.getrandbits(16)]), words)
            header += pick.randbytes(words * 4)
        return header + pick.randbytes(pick.randrange(1, 1000))

    def rtcp(self):
        """Any type and count with a length that fits, then noise: reports, feedback, SDES, BYE for anybody's SSRC."""
        pick = self.random
        body = pick.randbytes(4 * pick.randrange(1, 40))
        header = struct.pack("!BBH", 0x80 | pick.randrange(32), pick.randrange(200, 208), len(body) // 4)
        return header + body

    def packet(self):
        choice = self.random.random()
        if choice < 0.05:
            return FIXED
        return self.rtp() if choice < 0.6 else self.rtcp()


async def connect(session, pc, origin, room, name):
    await pc.setLocalDescription(await pc.createOffer())
    headers = {"Content-Type": "application/sdp"}
    url = f"{origin}/whip/{room}?name={name}"
    async with session.post(url, data=pc.localDescription.sdp, headers=headers) as response:
        text = await response.text()
        if response.status != 201:
            raise SystemExit(f"{url}: {response.status} {text[:300]}")
        await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
        return str(response.url.join(URL(response.headers["Location"])))


async def main(origin, room, name, packets, rate, seed):
    pc = RTCPeerConnection()
    for track in (AudioStreamTrack(), VideoStreamTrack()):
        pc.addTransceiver(track, direction="sendonly")
    async with aiohttp.ClientSession() as session:
        resource = await connect(session, pc, origin, room, name)
        while pc.connectionState != "connected":
            await asyncio.sleep(0.1)
        # The server has learned both tracks after these, so its tables have come to rest.
        await asyncio.sleep(3)
        senders = [transceiver.sender for transceiver in pc.getTransceivers()]
        transport = senders[0].transport
        for sender in senders:
            sender.replaceTrack(None)
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.readline)
        junk, sent, failed = Junk(seed, senders), 0, 0
        started = loop.time()
        while sent + failed < packets:
            while sent + failed < min(packets, (loop.time() - started) * rate):
                try:
                    await transport._send_rtp(junk.packet())
                    sent += 1
                except Exception as error:  # what the SRTP library itself refuses is not sent
                    failed += 1
                    if failed == 1:
                        print("refused:", repr(error), file=sys.stderr, flush=True)
            await asyncio.sleep(0.005)
        print(json.dumps({"sent": sent, "refused": failed, "state": pc.connectionState}), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        async with session.delete(resource) as response:
            print("DELETE", response.status, file=sys.stderr)
    await pc.close()


if __name__ == "__main__":
    texts, numbers = sys.argv[1:4], [int(word) for word in sys.argv[4:7]]
    asyncio.run(main(*texts, *numbers))
