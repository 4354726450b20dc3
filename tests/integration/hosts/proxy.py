"""A TCP proxy that delays, stalls and resets: the bad line of tests, where the kernel has no netem.
It is a process of its own on a host, told what to do by lines on its stdin."""
import asyncio
import socket
import struct
import subprocess
import sys
from pathlib import Path


class Proxy:
    def __init__(self, host, port, target):
        self.process = subprocess.Popen(
            host.command(sys.executable, Path(__file__).resolve(), host.address, port, *target),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "listening\n"

    def tell(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    def delay(self, seconds):
        """All that comes from now on, each way."""
        self.tell("delay", seconds)

    def stall(self):
        """Connections stay open, nothing passes; new ones are taken, and hear nothing."""
        self.tell("stall")

    def resume(self):
        self.tell("resume")

    def reset(self):
        """Every connection ends with an RST, at both ends."""
        self.tell("reset")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Line:
    def __init__(self, target):
        self.target = target
        self.seconds = 0.0
        self.moving = asyncio.Event()
        self.moving.set()
        self.writers = set()

    async def connect(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, far_writer}
        await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))
        self.writers -= {writer, far_writer}

    async def pump(self, reader, writer):
        """In order; each piece leaves when its delay is over."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue(1024)

        async def send():
            while (piece := await pieces.get())[1]:
                await asyncio.sleep(piece[0] - loop.time())
                await self.moving.wait()
                writer.write(piece[1])
                await writer.drain()

        sender = asyncio.create_task(send())
        try:
            while data := await reader.read(65536):
                await pieces.put((loop.time() + self.seconds, data))
        except OSError:
            pass
        await pieces.put((0, b""))
        try:
            await sender
            writer.close()
        except OSError:
            pass

    def reset(self):
        for writer in self.writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.writers.clear()

    def obey(self, words):
        if words[0] == "delay":
            self.seconds = float(words[1])
        elif words[0] == "stall":
            self.moving.clear()
        elif words[0] == "resume":
            self.moving.set()
        elif words[0] == "reset":
            self.reset()


async def serve(address, port, target):
    line = Line(target)
    await asyncio.start_server(line.connect, address, port)
    print("listening", flush=True)
    loop = asyncio.get_running_loop()
    while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        line.obey(words)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), (sys.argv[3], int(sys.argv[4]))))
