"""A server of a herd in Python's asyncio, the floor that test/bench compares edges with.

python3 asyncio_herd.py NAME HOST:PORT NEIGHBOUR=HOST:PORT...

Servers are joined directly, without a broker: each floods what is new to it over one TCP
connection per neighbour. It does the least that a herd needs, and nothing that an edge
promises beyond: no acks, no catching up, no limits, no journal.
"""
import asyncio
import math
import sys
import time


class Server:
    def __init__(self, name):
        self.name = name
        self.newest = {}  # by client: the time and the line of the newest position
        self.links = {}  # by neighbour: the writer of the connection to it

    def merge(self, client, stamp, line, sender):
        """Keep a line that is newer than what is held, and hand it on."""
        held = self.newest.get(client)
        if held is not None and held[0] >= stamp:
            return
        self.newest[client] = (stamp, line)
        for name, writer in self.links.items():
            if name != sender:
                writer.write(line)

    async def serve(self, reader, writer):
        sender = None
        try:
            while line := await reader.readline():
                received = time.time()
                fields = line.split()
                match fields:
                    case [b"IAMAT", client, location, stamp]:
                        at = float(stamp)
                        answer = b"AT %s %+.9f %s %s %s\n" % (self.name, received - at, client, location, stamp)
                        writer.write(answer)
                        self.merge(client, at, answer, None)
                    case [b"AT", _, _, client, _, stamp]:
                        self.merge(client, float(stamp), line, sender)
                    case [b"LINK", sender]:
                        pass
                    case [b"STATE"]:  # what all hold alike once all has reached all
                        total = math.fsum(stamp for stamp, _ in self.newest.values())
                        writer.write(b"%d %d %.6f\n" % (len(self.links), len(self.newest), total))
                    case _:
                        writer.write(b"? " + line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def join(self, name, address):
        """Connect to a neighbour as soon as it is there."""
        host, port = address.rsplit(":", 1)
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
                break
            except OSError:
                await asyncio.sleep(0.05)
        writer.write(b"LINK %s\n" % self.name)
        self.links[name] = writer


async def main(name, address, neighbours):
    server = Server(name.encode())
    host, port = address.rsplit(":", 1)
    listening = await asyncio.start_server(server.serve, host, int(port))
    async with asyncio.TaskGroup() as group:
        for neighbour in neighbours:
            other, at = neighbour.split("=")
            group.create_task(server.join(other.encode(), at))
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
