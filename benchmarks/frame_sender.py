"""A venue of one socket, for benchmarks: USD-M depth frames as fast as the reader takes them, or paced.

Run as a process of its own, so that its work is not measured: it prints its port, serves one connection at a
time and ends when its standard input closes. The path says what to send: ``/burst/N`` at once, or
``/paced/N/RATE`` from the client's first message on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator

SYMBOL = "BTCUSDT"
TICKS_PER_UNIT = 10
LEVELS_PER_SIDE = 500
CHANGES_PER_SIDE = 14
MID_TICKS = 600_000
FIRST_ID = 1_000_000
_HANDSHAKE_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK_BYTES = 1 << 18


def price(ticks: int) -> str:
    return f"{ticks // TICKS_PER_UNIT}.{ticks % TICKS_PER_UNIT}0"


def snapshot_body() -> bytes:
    """The REST snapshot that the frames continue."""
    bids = ",".join(f'["{price(MID_TICKS - 1 - i)}","1.000"]' for i in range(LEVELS_PER_SIDE))
    asks = ",".join(f'["{price(MID_TICKS + i)}","1.000"]' for i in range(LEVELS_PER_SIDE))
    return f'{{"lastUpdateId":{FIRST_ID},"E":1,"T":1,"bids":[{bids}],"asks":[{asks}]}}'.encode()


def depth_frames(count: int) -> Iterator[bytes]:
    """Frames of some 740 bytes and 28 levels whose best prices stay and whose quantities change."""
    dice = random.Random(20240808)  # noqa: S311 - made data
    previous = FIRST_ID
    for number in range(count):
        final = previous + dice.randint(1, 40)
        at_ms = 1_723_075_200_000 + number // 5
        bids = ",".join(_levels(dice, MID_TICKS - 1, -1))
        asks = ",".join(_levels(dice, MID_TICKS, 1))
        yield (
            f'{{"stream":"{SYMBOL.lower()}@depth@100ms","data":{{"e":"depthUpdate","E":{at_ms},"T":{at_ms},'
            f'"s":"{SYMBOL}","U":{previous + 1},"u":{final},"pu":{previous},"b":[{bids}],"a":[{asks}]}}}}'
        ).encode()
        previous = final


def _levels(dice: random.Random, best: int, step: int) -> list[str]:
    offsets = sorted({int(dice.expovariate(1 / 60)) for _ in range(CHANGES_PER_SIDE + 2)})[:CHANGES_PER_SIDE]
    levels = []
    for offset in offsets:
        removed = offset > 0 and dice.random() < 0.3
        quantity = 0.0 if removed else 1 + 9 * dice.random()
        levels.append(f'["{price(best + step * offset)}","{quantity:.3f}"]')
    return levels


def websocket_frame(payload: bytes) -> bytes:
    """One unmasked text frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    return b"\x81\x7e" + size.to_bytes(2, "big") + payload


def serve(connection: socket.socket, frames: list[bytes]) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    lines = request.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
    key = next(line for line in lines if line.lower().startswith(b"sec-websocket-key")).split(b": ", 1)[1]
    assert headers[b"upgrade"] == b"websocket"
    accept = base64.b64encode(hashlib.sha1(key + _HANDSHAKE_KEY).digest())  # noqa: S324 - RFC 6455 asks for it
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    _, mode, count, *rate = lines[0].split(b" ")[1].decode().split("?")[0].split("/")
    chosen = frames[: int(count)]
    if mode == "burst":
        send_burst(connection, chosen)
    else:
        connection.recv(4096)
        send_paced(connection, chosen, int(rate[0]))
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass


def send_burst(connection: socket.socket, frames: list[bytes]) -> None:
    everything = memoryview(b"".join(frames))
    for begin in range(0, len(everything), _CHUNK_BYTES):
        connection.sendall(everything[begin : begin + _CHUNK_BYTES])


def send_paced(connection: socket.socket, frames: list[bytes], rate: int) -> None:
    begin_ns = time.perf_counter_ns()
    for number, frame in enumerate(frames):
        due_ns = begin_ns + number * 1_000_000_000 // rate
        while (ahead_ns := due_ns - time.perf_counter_ns()) > 0:
            if ahead_ns > 100_000:
                time.sleep((ahead_ns - 60_000) / 1e9)
        connection.sendall(frame)


def main() -> None:
    frames = [websocket_frame(frame) for frame in depth_frames(int(sys.argv[1]))]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        threading.Thread(target=_serve_all, args=(listener, frames), daemon=True).start()
        sys.stdin.read()


def _serve_all(listener: socket.socket, frames: list[bytes]) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(ConnectionError):
            serve(connection, frames)


if __name__ == "__main__":
    main()
