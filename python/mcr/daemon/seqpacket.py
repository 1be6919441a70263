"""Messages from the other end of a SEQPACKET socket (unix(7))."""

import socket


def receive_message(
    end: socket.socket, room_bytes: int, descriptors: int
) -> tuple[bytes, list[int], int]:
    """Receive the next message; no bytes mean that the other end is closed.

    A peer that closes its end with messages unread is first reported by ECONNRESET, and only then
    come the messages that it had sent (Linux, net/unix/af_unix.c).

    Args:
        end: this end.
        room_bytes: the most that a message may hold; of a longer one the rest is lost.
        descriptors: the most that may come with a message.

    Returns:
        The message, its descriptors, and the flags of recvmsg(2).

    Raises:
        OSError: BlockingIOError if there is none.
    """
    try:
        found = socket.recv_fds(end, room_bytes, descriptors, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        found = socket.recv_fds(end, room_bytes, descriptors, socket.MSG_CMSG_CLOEXEC)
    content, received, flags, _ = found
    return content, list(received), flags
