"""A wire that can be harmed: a proxy before a worker, over TCP or a Unix socket, told what to do while bytes run.

    with Wires() as wires:
        wire = wires.before("127.0.0.1:8001")      # or unix:PATH; wire.address is where to connect
        wire.harm(delay=0.05)                       # each piece is held so long, both ways
        wire.harm(rate=20000)                       # answers come at so many bytes a second
        wire.harm(hush=True)                        # a black hole: connections stand, new ones are taken, nothing passes
        wire.harm(refuse=True)                      # new connections are closed at once
        wire.cut()                                  # every connection is reset
        wire.half_open()                            # the worker's side is closed, the gateway's side stays and is silent
        wire.heal()                                 # as at first; what was held passes

All wires of one Wires run on one thread. A delay holds what has come by then in one piece, so it costs no throughput.
"""
import asyncio
import contextlib
import socket
import struct
import tempfile
import threading


class Wires:
    def __init__(self):
        self.loop, self.wires = asyncio.new_event_loop(), []
        self.directory = tempfile.TemporaryDirectory(prefix="wires-")
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def before(self, target):
        """A wire to that address; it listens on the same kind of socket."""
        wire = Wire(self, target, f"{self.directory.name}/{len(self.wires)}")
        self.wires.append(wire)
        self.run(wire.listen())
        return wire

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for wire in self.wires:
            self.run(wire.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.directory.cleanup()


async def connect(address):
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address[5:])
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


def reset(writer):
    """RST over TCP, the end over a Unix socket."""
    s = writer.get_extra_info("socket")
    if s is not None and s.family == socket.AF_INET:
        with contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Wire:
    def __init__(self, wires, target, path):
        self.wires, self.target, self.path = wires, target, path
        self.delay, self.rate, self.refuse, self.open = 0.0, 0, False, asyncio.Event()
        self.links, self.tasks, self.taken = set(), set(), 0

    async def listen(self):
        self.open.set()
        if self.target.startswith("unix:"):
            self.server = await asyncio.start_unix_server(self.accept, self.path)
            self.address = f"unix:{self.path}"
        else:
            self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
            self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]

    async def accept(self, reader, writer):
        self.taken += 1
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            if self.refuse:
                return reset(writer)
            await self.open.wait()
            try:
                far = await connect(self.target)
            except OSError:
                return reset(writer)
            await self.link(reader, writer, *far)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self.tasks.discard(task)

    async def link(self, reader, writer, far_reader, far_writer):
        link = (writer, far_writer)
        self.links.add(link)
        there = asyncio.ensure_future(self.pump(reader, far_writer, 0))
        back = asyncio.ensure_future(self.pump(far_reader, writer, 1))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            if link not in self.links:  # half open: the near side stays until it leaves by itself
                await there
        finally:
            self.links.discard(link)
            there.cancel()
            back.cancel()
            for w in (writer, far_writer):
                w.close()

    async def pump(self, reader, writer, back):
        with contextlib.suppress(OSError):
            while octets := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self.open.wait()
                with contextlib.suppress(OSError):  # a side that has gone takes nothing; the link ends by the other pump
                    await self.pass_on(octets, writer, back)

    async def pass_on(self, octets, writer, back):
        for piece in self.pieces(octets) if back and self.rate else [octets]:
            if writer.is_closing():
                return
            writer.write(piece)
            await writer.drain()
            if back and self.rate:
                await asyncio.sleep(len(piece) / self.rate)

    def pieces(self, octets):
        """What may pass in a twentieth of a second, each."""
        size = max(1, self.rate // 20)
        return [octets[i : i + size] for i in range(0, len(octets), size)]

    # -- what a test says

    def harm(self, delay=None, rate=None, hush=None, refuse=None):
        async def do():
            self.delay = self.delay if delay is None else delay
            self.rate = self.rate if rate is None else rate
            self.refuse = self.refuse if refuse is None else refuse
            if hush is not None:
                (self.open.clear if hush else self.open.set)()

        self.wires.run(do())

    def cut(self):
        async def do():
            for near, far in list(self.links):
                reset(near)
                reset(far)

        self.wires.run(do())

    def half_open(self):
        async def do():
            links, self.links = self.links, set()
            for _, far in links:
                far.transport.abort()

        self.wires.run(do())

    def heal(self):
        self.harm(delay=0.0, rate=0, hush=False, refuse=False)

    async def close(self):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(list(self.tasks), timeout=5)
