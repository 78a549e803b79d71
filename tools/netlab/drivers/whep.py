# SPDX-License-Identifier: Apache-2.0
"""Watches one participant by WHEP with aiortc and says what was decoded.

usage: whep.py ORIGIN ROOM PARTICIPANT SECONDS
Prints one JSON line: frames decoded, packets, the mean colour of the picture's middle, the sound's pitch.
"""

import asyncio
import json
import sys
import time

import aiohttp
import numpy
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from yarl import URL

ATTEMPTS = 40
RATE = 48000


class Ear:
    """The last second of sound."""

    def __init__(self):
        self.samples = numpy.zeros(0)

    def hear(self, frame):
        sound = frame.to_ndarray().astype(float)
        channels = len(frame.layout.channels)
        # Packed stereo: one row, channels side by side.
        sound = sound.reshape(-1)[::channels] if sound.shape[0] == 1 else sound[0]
        self.samples = numpy.concatenate([self.samples, sound])[-RATE:]

    def pitch(self):
        if len(self.samples) < RATE // 2 or numpy.abs(self.samples).max() < 100:
            return None
        window = self.samples * numpy.hanning(len(self.samples))
        return float(numpy.abs(numpy.fft.rfft(window)).argmax() * RATE / len(window))


def middle(frame):
    """Mean colour of the middle of the picture."""
    picture = frame.to_ndarray(format="rgb24")
    height, width = picture.shape[:2]
    part = picture[height // 2 - 20 : height // 2 + 20, width // 2 - 20 : width // 2 + 20]
    return [int(value) for value in part.reshape(-1, 3).mean(axis=0).round()]


async def negotiate(session, pc, origin, room, participant):
    """POSTs the offer until the participant is there; returns the resource's URL."""
    await pc.setLocalDescription(await pc.createOffer())
    url = f"{origin}/whep/{room}/{participant}"
    for attempt in range(ATTEMPTS):
        headers = {"Content-Type": "application/sdp"}
        async with session.post(url, data=pc.localDescription.sdp, headers=headers) as response:
            text = await response.text()
            if response.status == 201:
                await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
                return str(response.url.join(URL(response.headers["Location"])))
            print(f"attempt {attempt}: {response.status} {text[:200]}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)
    raise SystemExit(f"{participant} cannot be watched")


async def main(origin, room, participant, seconds):
    pc = RTCPeerConnection()
    result = {"video_frames": 0, "audio_frames": 0, "first_frame_ms": None, "colour": None, "size": None}
    ear = Ear()
    started = time.monotonic()

    async def consume(track):
        try:
            while True:
                frame = await track.recv()
                result[f"{track.kind}_frames"] += 1
                if track.kind == "audio":
                    ear.hear(frame)
                    continue
                if result["first_frame_ms"] is None:
                    result["first_frame_ms"] = (time.monotonic() - started) * 1000
                result["colour"], result["size"] = middle(frame), [frame.width, frame.height]
        except MediaStreamError:
            pass

    pc.on("track", lambda track: asyncio.ensure_future(consume(track)))
    pc.on("connectionstatechange", lambda: print("state", pc.connectionState, file=sys.stderr, flush=True))
    for kind in ("audio", "video"):
        pc.addTransceiver(kind, direction="recvonly")
    async with aiohttp.ClientSession() as session:
        resource = await negotiate(session, pc, origin, room, participant)
        await asyncio.sleep(seconds)
        for report in (await pc.getStats()).values():
            if report.type == "inbound-rtp":
                result[f"{report.kind}_packets"] = report.packetsReceived
                result[f"{report.kind}_packets_lost"] = report.packetsLost
        result.update(state=pc.connectionState, pitch=ear.pitch())
        print(json.dumps(result), flush=True)
        async with session.delete(resource) as response:
            print("DELETE", response.status, file=sys.stderr)
    await pc.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
