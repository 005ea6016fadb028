"""Answers WebRTC calls: returns what arrives on a data channel, and sends a test picture.

    apt install python3-aiortc python3-aiohttp
    python3 answer.py https://localhost:3000 bob builder --insecure

The caller can be the Go example, or a page in a browser. They use the messages of
docs/protocol.md, "Signals of a call". mailbox.py is the client of the server.
"""

import argparse
import asyncio
import json
import re
import time

import aiohttp
from aioice.stun import TransactionFailed
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.contrib.media import MediaBlackhole
from aiortc.sdp import candidate_from_sdp

from mailbox import Mailbox, Passing, Refused

MAX_CALLS = 16  # everyone who knows the name can call it
CONNECT_TIMEOUT = 40  # seconds


class Call:
    """One call of one peer. The caller chooses its id, at random."""

    def __init__(self, mailbox, peer, id, servers):
        self.mailbox, self.peer, self.id = mailbox, peer, id
        self.sent = self.received = 0  # the signals of a side are numbered from 1
        self.deadline = time.monotonic() + CONNECT_TIMEOUT
        configuration = RTCConfiguration([
            RTCIceServer(server["urls"], server.get("username"), server.get("credential"))
            for server in servers
        ])
        self.pc = RTCPeerConnection(configuration)
        self.pc.on("datachannel", self.echo)
        self.pc.on("track", self.discard)

    def echo(self, channel):
        print(f"{self.peer} has opened {channel.label}", flush=True)
        channel.on("message", channel.send)

    async def discard(self, track):
        """Reads what the caller shows: aiortc keeps the frames that are not read."""
        sink = MediaBlackhole()
        sink.addTrack(track)
        await sink.start()

    async def ring(self):
        """Makes the offer of a call that began with a ring, as those of connect.js do.

        That client expects a channel with ID 0, and can create others. The offer has no media.
        """
        self.pc.createDataChannel("data", negotiated=True, id=0)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        await self.send({"description": {"type": "offer", "sdp": self.pc.localDescription.sdp}})

    async def receive(self, signal):
        """Handles a description or the candidates of the caller."""
        if not signal["n"] > self.received:
            return  # a duplicate: the sender did not get the answer of the server
        self.received = signal["n"]
        description = signal.get("description") or {}
        if description.get("type") == "offer" and self.pc.signalingState == "stable":
            await self.answer(description["sdp"], signal["n"])
        elif description.get("type") == "answer":
            await self.pc.setRemoteDescription(RTCSessionDescription(description["sdp"], "answer"))
        for candidate in signal.get("candidates") or []:
            await self.add(candidate)

    async def answer(self, sdp, n):
        if self.pc.remoteDescription and ice_ufrag(sdp) != ice_ufrag(self.pc.remoteDescription.sdp):
            return  # aiortc cannot restart ICE: the caller will make a new call
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        for transceiver in self.pc.getTransceivers():
            if transceiver.kind == "video" and not transceiver.sender.track:
                self.pc.addTrack(VideoStreamTrack())  # a green picture; the caller wants video
        # aiortc gathers all candidates here: its answer contains them, and none follow.
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        description = {"type": "answer", "sdp": self.pc.localDescription.sdp}
        await self.send({"description": description, "answers": n})

    async def add(self, init):
        try:
            candidate = candidate_from_sdp(init["candidate"].removeprefix("candidate:"))
            candidate.sdpMid, candidate.sdpMLineIndex = init.get("sdpMid"), init.get("sdpMLineIndex")
            await self.pc.addIceCandidate(candidate)
        except Exception as error:  # such as TCP, or a name in .local; another one can work
            print(f"candidate of {self.peer}: {error!r}", flush=True)

    def has_ended(self):
        """Whether the caller hung up or is lost, or has not connected in time."""
        state = self.pc.connectionState
        late = state != "connected" and time.monotonic() > self.deadline
        transports = [transceiver.sender.transport for transceiver in self.pc.getTransceivers()]
        if self.pc.sctp:
            transports.append(self.pc.sctp.transport)
        hung_up = any(transport.state == "closed" for transport in transports)
        return late or hung_up or state in ("failed", "closed")

    async def send(self, signal):
        self.sent += 1
        signal = {"call": self.id, "n": self.sent, **signal}
        if not await self.mailbox.send(self.peer, signal):
            print(f"{self.peer} is gone", flush=True)
            await self.pc.close()


def ice_ufrag(sdp):
    return re.search(r"^a=ice-ufrag:(.*?)\s*$", sdp, re.M).group(1)


class Calls:
    """The calls of all peers, one each."""

    def __init__(self, mailbox):
        self.mailbox = mailbox
        self.peers = {}  # by name: a queue of signals, and the task that handles them

    def receive(self, peer, body):
        """Passes a message to the task of its peer, so that no peer delays another."""
        try:
            signal = json.loads(body)
            if not isinstance(signal["call"], str) or not isinstance(signal.get("n", 0), int):
                return
        except (ValueError, LookupError, TypeError):
            return  # everyone can send anything
        if peer not in self.peers:
            if len(self.peers) >= MAX_CALLS:
                return
            queue = asyncio.Queue(100)
            self.peers[peer] = queue, asyncio.create_task(self.serve(peer, queue))
        queue, _ = self.peers[peer]
        if not queue.full():
            queue.put_nowait(signal)

    async def serve(self, peer, queue):
        """Handles the signals of a peer until its call has ended and no signal is left."""
        call = None
        while True:
            try:
                signal = await asyncio.wait_for(queue.get(), 1)
            except asyncio.TimeoutError:
                if call is None or call.has_ended():
                    break
                continue
            try:
                call = await self.handle(peer, call, signal)
            except Exception as error:  # of this peer only
                print(f"signal of {peer}: {error!r}", flush=True)
        del self.peers[peer]
        if call:
            await call.pc.close()
            print(f"the call of {peer} has ended", flush=True)

    async def handle(self, peer, call, signal):
        """Passes a signal to its call, and returns the call: a new one if the signal begins one."""
        begins = "ring" in signal or (signal.get("description") or {}).get("type") == "offer"
        if begins and (call is None or call.id != signal["call"]):
            if call:
                await call.pc.close()
            call = Call(self.mailbox, peer, signal["call"], await self.mailbox.ice_servers())
            if "ring" in signal:
                await call.ring()
        if call is None or call.id != signal["call"]:
            return call  # a signal of an earlier call
        if "bye" in signal:
            await call.pc.close()
        elif "n" in signal:
            await call.receive(signal)
        return call


def on_loop_error(loop, context):
    """Drops the answers of the relay to addresses that it does not reach, which aioice does not handle."""
    if not isinstance(context.get("exception"), TransactionFailed):
        loop.default_exception_handler(context)


async def main():
    parser = argparse.ArgumentParser(description="Answers WebRTC calls.")
    parser.add_argument("server", help="such as https://localhost:3000")
    parser.add_argument("name")
    parser.add_argument("password")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate, for a server with a self-signed one")
    args = parser.parse_args()
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    async with aiohttp.ClientSession() as session:
        mailbox = Mailbox(session, args.server, args.name, args.password, ssl=False if args.insecure else None)
        calls = Calls(mailbox)
        try:
            async for peer, body in mailbox.messages():
                calls.receive(peer, body)
        finally:
            try:
                await mailbox.release()
            except (Passing, Refused):
                pass  # the name expires after a minute


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except Refused as refused:
        raise SystemExit(refused)
