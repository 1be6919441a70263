"""Keys of the nodes of a fleet, and what each may do on NATS servers.

A node proves by a signature that it has its key; servers know the public half only. It may read its
own documents and write its own status, nothing else; an administrator may do everything in the
account of the fleet.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import nkeys

from ..text_file import replace_text
from .nats_source import document_names, inbox_of
from .nats_store import RULES_BUCKET, STATUS_BUCKET, key_of
from .source import NodeIdentity, SourceError

ADMINISTRATOR = "admin"
"""The name of the file of the administrator's seed, which no node has."""
ACCOUNTS = "accounts.conf"
_SEED_BYTES = 32


def write_permissions(directory: Path, nodes: Iterable[NodeIdentity]) -> tuple[str, ...]:
    """Write a seed for each node that has none, and the accounts that servers include.

    NAME.seed        readable by its owner only; existing ones stay
    admin.seed       that of the administrator
    accounts.conf    public keys and permissions; nothing secret

    Args:
        directory: is created if it does not exist.
        nodes: the nodes and their labels.

    Returns:
        The names of the files that were made.

    Raises:
        OSError: a file cannot be written.
        SourceError: a seed that exists is none, or a node has the administrator's name.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made: list[str] = []
    admin = _public_key(directory / f"{ADMINISTRATOR}.seed", made)
    users = [f"      {{ nkey: {admin} }}"]
    for node in nodes:
        if node.name == ADMINISTRATOR:
            raise SourceError(f"{ADMINISTRATOR} is the administrator; rename the node")
        users += _user(node, _public_key(directory / f"{node.name}.seed", made))
    replace_text(directory / ACCOUNTS, "\n".join((*_HEAD, *users, *_TAIL, "")))
    return (*made, ACCOUNTS)


_HEAD = (
    "# Include this file in the configuration of each server: include ./accounts.conf",
    "accounts {",
    "  MCR {",
    "    jetstream: enabled",
    "    users: [",
)
_TAIL = ("    ]", "  }", "}")


class NodePermissions(NamedTuple):
    """The subjects of NATS that a node needs; it may use no others."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions_of(node: NodeIdentity) -> NodePermissions:
    """What a node may do: read its documents, write its status, get answers."""
    values = [f"$KV.{RULES_BUCKET}.{key_of(name)}" for name in document_names(node)]
    reads = [f"$JS.API.DIRECT.GET.KV_{RULES_BUCKET}.{value}" for value in values]
    return NodePermissions(
        (*reads, f"$KV.{STATUS_BUCKET}.{key_of(node.name)}"),
        (f"{inbox_of(node.name)}.>", *values),
    )


def _user(node: NodeIdentity, public_key: str) -> Iterator[str]:
    publish, subscribe = permissions_of(node)
    yield f"      # {node.name}"
    yield f"      {{ nkey: {public_key}, permissions: {{"
    yield f"        publish: {{ allow: {json.dumps(publish)} }}"
    yield f"        subscribe: {{ allow: {json.dumps(subscribe)} }}"
    yield "      } }"


def _public_key(path: Path, made: list[str]) -> str:
    """The public half of the seed in a file, which is made if it does not exist."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        seed = path.read_bytes().strip()
    else:
        seed = nkeys.encode_seed(os.urandom(_SEED_BYTES), nkeys.PREFIX_BYTE_USER)
        with open(descriptor, "wb") as file:
            file.write(seed + b"\n")
        made.append(path.name)
    try:
        public_key: str = nkeys.from_seed(bytearray(seed)).public_key.decode()
    except (nkeys.NkeysError, ValueError):
        raise SourceError(f"{path} has no seed; remove it, and another one is made") from None
    return public_key
