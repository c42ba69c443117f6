"""A PostgreSQL client that hides nothing: columns with their types, rows as text, tags, every field of an error.

Blocking, trust authentication only. Knows no SQL.
"""

import re
import socket
import struct

ANSWER_SECONDS = 120


class Gone(Exception):
    """The server closed the connection."""


class Reply:
    """What one text gave: a list of results, and the error that ended it."""

    def __init__(self):
        self.parameters = None
        self.results = []
        self.error = None
        self.status = "I"


class Client:
    def __init__(self, port, database, user="postgres", options=""):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        body = struct.pack("!I", 196608)
        for name, value in (("user", user), ("database", database), ("options", options)):
            body += name.encode() + b"\0" + value.encode() + b"\0"
        body += b"\0"
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        reply = self.reply(b"")
        if reply.error:
            raise Gone(reply.error["M"])

    def close(self):
        self.socket.close()

    def simple(self, sql, copied_in=b""):
        """One message of the simple protocol; `copied_in` is what a COPY FROM STDIN is fed."""
        self.socket.sendall(message(b"Q", sql.encode() + b"\0"))
        return self.reply(copied_in)

    def extended(self, sql, copied_in=b""):
        """Parse, Describe, Bind, Describe, Execute, Sync."""
        batch = message(b"P", b"\0" + sql.encode() + b"\0\0\0") + message(b"D", b"S\0")
        batch += message(b"B", b"\0\0" + b"\0\0" * 3) + message(b"D", b"P\0")
        batch += message(b"E", b"\0" + b"\0" * 4)
        # While it reads copy data the server ignores a Sync, and behind an error it does not: that of a COPY waits.
        waits = re.match(r"(\s|--[^\n]*\n|/\*.*?\*/)*copy\b", sql, re.I | re.S) is not None
        self.socket.sendall(batch + message(b"H" if waits else b"S", b""))
        return self.reply(copied_in, message(b"S", b"") if waits else b"")

    def must(self, sql):
        reply = self.simple(sql)
        if reply.error:
            raise RuntimeError(f"{reply.error['M']} in {sql}")
        return reply

    def reply(self, copied_in, behind=b""):
        reply, current = Reply(), new_result()
        while True:
            kind, body = self.frame()
            if kind == b"Z":
                reply.status = body.decode()
                return reply
            if kind == b"T":
                current["columns"] = columns(body)
            elif kind == b"t":
                reply.parameters = list(struct.unpack(f"!{(len(body) - 2) // 4}I", body[2:]))
            elif kind == b"D":
                current["rows"].append(row(body))
            elif kind in (b"C", b"I"):
                current["tag"] = body[:-1].decode() if kind == b"C" else ""
                reply.results.append(current)
                current = new_result()
                behind = self.sent(behind)
            elif kind == b"E":
                reply.error = fields(body)
                behind = self.sent(behind)
                current = new_result()
                if reply.error.get("S") in ("FATAL", "PANIC"):
                    raise Gone(reply.error["M"])
            elif kind == b"d":
                current["copied"] += body
            elif kind == b"G":
                self.socket.sendall(message(b"d", copied_in) + message(b"c", b""))
                behind = self.sent(behind)

    def sent(self, waiting):
        self.socket.sendall(waiting)
        return b""

    def frame(self):
        head = self.take(5)
        return head[:1], self.take(struct.unpack("!I", head[1:])[0] - 4)

    def take(self, size):
        while len(self.buffer) < size:
            chunk = self.socket.recv(1 << 16)
            if not chunk:
                raise Gone("the connection was closed")
            self.buffer += chunk
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken


def new_result():
    return {"columns": None, "rows": [], "tag": None, "copied": b""}


def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


def columns(body):
    found, at = [], 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        end = body.index(b"\0", at)
        type_oid, _, modifier = struct.unpack("!IhI", body[end + 7 : end + 17])
        found.append((body[at:end].decode(errors="replace"), type_oid, modifier))
        at = end + 19
    return found


def row(body):
    cells, at = [], 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        size = struct.unpack("!i", body[at : at + 4])[0]
        at += 4
        cells.append(None if size < 0 else body[at : at + size].decode(errors="replace"))
        at += max(size, 0)
    return tuple(cells)


def fields(body):
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
