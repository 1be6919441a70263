"""The features of a network device, read and switched by the ioctl that ethtool(8) uses.

Owns the layouts of <linux/ethtool.h>, so that the tests need no ethtool. Acts in the network
namespace of the calling thread.
"""

import ctypes
import fcntl
import socket
import struct
from fnmatch import fnmatch

_SIOCETHTOOL = 0x8946
_GSTRINGS = 0x1B
_GSSET_INFO = 0x37
_GFEATURES = 0x3A
_SFEATURES = 0x3B
_FEATURES = 4  # ETH_SS_FEATURES
_NAME_BYTES = 32  # ETH_GSTRING_LEN
_UNSUPPORTED = 1  # ETHTOOL_F_UNSUPPORTED
_GROUPS = {"gro": "rx-gro", "gso": "tx-generic-segmentation", "tso": "tx-tcp*segmentation"}
"""The short names of ethtool(8), and which features of the kernel they mean."""


def switch(interface: str, features: dict[str, bool]) -> None:
    """Switch features, by the kernel's names or by the short ones of ethtool(8).

    Raises:
        OSError: there is no such interface, or the right is missing.
        RuntimeError: the device has no such feature, or does not let it be switched.
    """
    names = _names(interface)
    for feature, on in features.items():
        pattern = _GROUPS.get(feature, feature)
        places = [place for place, name in enumerate(names) if fnmatch(name, pattern)]
        words = [[0, 0] for _ in range(_words(names))]  # which bits are meant, and their values
        for place in places:
            words[place // 32][0] |= 1 << place % 32
            words[place // 32][1] |= on << place % 32
        request = struct.pack("=2I", _SFEATURES, len(words))
        request += b"".join(struct.pack("=2I", *word) for word in words)
        answered, _ = _ethtool(interface, request)
        if not places or answered & _UNSUPPORTED:
            raise RuntimeError(f"{interface}: {feature} cannot be switched {'on' if on else 'off'}")


def is_on(interface: str, feature: str) -> bool:
    """Whether a feature is in effect, by its name in the kernel, such as `rx-gro`."""
    names = _names(interface)
    place = names.index(feature)
    request = struct.pack("=2I", _GFEATURES, _words(names)) + bytes(16 * _words(names))
    _, answer = _ethtool(interface, request)
    # struct ethtool_get_features_block: available, requested, active, never_changed.
    (active,) = struct.unpack_from("=I", answer, 8 + 16 * (place // 32) + 8)
    return bool(active >> place % 32 & 1)


def _names(interface: str) -> list[str]:
    """What the kernel calls the features, in the order of their bits."""
    request = struct.pack("=2IQI", _GSSET_INFO, 0, 1 << _FEATURES, 0)
    _, answer = _ethtool(interface, request)
    (count,) = struct.unpack_from("=I", answer, 16)
    request = struct.pack("=3I", _GSTRINGS, _FEATURES, count) + bytes(count * _NAME_BYTES)
    _, answer = _ethtool(interface, request)
    names = (answer[12 + at * _NAME_BYTES :][:_NAME_BYTES] for at in range(count))
    return [name.partition(b"\0")[0].decode() for name in names]


def _words(names: list[str]) -> int:
    return -(-len(names) // 32)


def _ethtool(interface: str, request: bytes) -> tuple[int, bytes]:
    """What the ioctl returned, and the request with the answer in it."""
    buffer = ctypes.create_string_buffer(request, len(request))
    ifreq = struct.pack("16sP16x", interface.encode(), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        returned = fcntl.ioctl(any_socket, _SIOCETHTOOL, bytearray(ifreq))
    return returned, buffer.raw
