"""A wire between two interfaces of a namespace that delays what it carries."""

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator

from .namespaces import Namespace

ETH_P_ALL = 3
PACKET_OUTGOING = 4
LONGEST_QUEUE = 4096
FRAME_BYTES = 2048


@contextlib.contextmanager
def delaying(namespace: Namespace, near: str, far: str, delay_s: float) -> Iterator[None]:
    """Carry frames both ways for the time of the block; beyond a bounded queue they are lost."""
    with contextlib.ExitStack() as stack:
        ends = []
        with namespace:
            for name in (near, far):
                end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                end.bind((name, ETH_P_ALL))
                end.setblocking(False)
                ends.append(stack.enter_context(end))
        stop = threading.Event()
        thread = threading.Thread(target=_carry, args=(*ends, delay_s, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _carry(near: socket.socket, far: socket.socket, delay_s: float, stop: threading.Event) -> None:
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    others = {near: far, far: near}
    while not stop.is_set():
        now_s = time.monotonic()
        while waiting and waiting[0][0] <= now_s:
            _, end, frame = waiting.popleft()
            with contextlib.suppress(OSError):
                end.send(frame)
        left_s = waiting[0][0] - now_s if waiting else 0.05
        for end in select.select([near, far], [], [], left_s)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, origin = end.recvfrom(FRAME_BYTES)
                    if origin[2] != PACKET_OUTGOING and len(waiting) < LONGEST_QUEUE:
                        waiting.append((time.monotonic() + delay_s, others[end], frame))
