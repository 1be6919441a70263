"""The buckets of a fleet in NATS JetStream: documents with their history, and the status of nodes.

mcr-rules    nodes.NAME, labels.KEY.VALUE    a configuration as text
mcr-status   NAME                            a `NodeStatus` as JSON

Names have characters that keys may not have; `key_of` writes them as ``=`` and two hex digits.
"""

import contextlib
import re
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar

import nats.errors
import nats.js.errors
from nats.js.api import Header
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue

from .nats_connection import REQUEST_S, NatsConnection, RequestRefused
from .source import SourceError, StoreConflict, StoredText

T = TypeVar("T")
RULES_BUCKET, STATUS_BUCKET = "mcr-rules", "mcr-status"
HISTORY = 64
"""How many texts of each document a server keeps: the most that it can."""
STATUS_BYTES = 128 << 10
"""The longest status that a server accepts."""
_READS = 6
_RESERVED = re.compile(r"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(r"(?:=[0-9A-F]{2})+")


def key_of(name: str) -> str:
    """The key of a name: ``nodes/ams1.example`` is ``nodes.ams1=2Eexample``."""
    kind, slash, rest = name.partition("/")
    if not slash:
        return _token(name)
    return ".".join(map(_token, (kind, *(rest.split("=", 1) if kind == "labels" else (rest,)))))


def name_of(key: str) -> str:
    """The name of a key."""
    kind, *parts = (_ESCAPED.sub(_unescape, each) for each in key.split("."))
    return f"{kind}/{'='.join(parts)}" if parts else kind


class SourceTimeout(SourceError):
    """No server has answered in time."""


class NatsStore:
    """One bucket."""

    def __init__(self, connection: NatsConnection, bucket: str) -> None:
        """Contact no server yet."""
        self._connection, self._bucket = connection, bucket
        self._made: tuple[object, KeyValue, JetStreamContext] | None = None

    def subject(self, key: str) -> str:
        """The subject to which values of a key are published."""
        return f"$KV.{self._bucket}.{key}"

    async def get(self, name: str) -> StoredText | None:
        """Return a text, or None if there is none.

        Raises:
            SourceError: no server answers, or refuses.
        """
        try:
            entry = await self._ask(self._values.get(key_of(name)), name)
        except nats.js.errors.KeyNotFoundError:
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise self._error(f"{name} cannot be read", error) from None
        return StoredText(name, (entry.value or b"").decode(errors="replace"), entry.revision or 0)

    async def put(self, name: str, text: str, expected: int | None = None) -> int:
        """Write a text; return its revision.

        Args:
            name: the name.
            text: the text.
            expected: the revision that it must have now, 0 if it must not exist; None: any.

        Raises:
            StoreConflict: it has another revision.
            SourceError: no server answers, or refuses.
        """
        key, value = key_of(name), text.encode()
        try:
            if expected is None:
                return await self._ask(self._values.put(key, value), name)
            if expected == 0:  # what was deleted has a revision, which `create` knows about
                return await self._ask(self._values.create(key, value), name)
            return await self._ask(self._values.update(key, value, expected), name)
        except (nats.js.errors.KeyWrongLastSequenceError, nats.js.errors.KeyNotFoundError):
            # Not found is what `create` asks a server that lags behind the one that refused.
            raise StoreConflict(f"{name} was changed by another client") from None
        except (nats.errors.Error, TimeoutError) as error:
            raise self._error(f"{name} cannot be written", error) from None

    async def entries(self, name: str | None = None) -> list[StoredText]:
        """Return the texts of all names, or all texts of one from the oldest on.

        It may take seconds: for a while after a server has died, others still hand it such reads.

        Raises:
            SourceError: no server answers, or refuses.
        """
        for _ in range(_READS - 1):
            with contextlib.suppress(SourceTimeout):
                return await self._entries(name)
        return await self._entries(name)

    async def revisions(self) -> dict[str, int]:
        """Return the revision of each name, without reading the texts.

        Raises:
            SourceError: no server answers, or refuses.
        """
        return {each.name: each.revision for each in await self._entries(None, with_text=False)}

    async def _entries(self, name: str | None, *, with_text: bool = True) -> list[StoredText]:
        found = []
        try:
            watcher = await self._ask(
                self._values.watch(
                    ">" if name is None else key_of(name),
                    include_history=name is not None,
                    meta_only=not with_text,
                )
            )
            try:
                while (entry := await watcher.updates(REQUEST_S)) is not None:  # type: ignore[no-untyped-call]
                    if not entry.operation:
                        found.append(_stored(entry))
            finally:
                await watcher.stop()  # type: ignore[no-untyped-call]
        except nats.js.errors.NotFoundError:
            raise SourceError(
                "the servers have no store of a fleet yet; create it with mcr fleet create"
            ) from None
        except (nats.errors.Error, TimeoutError) as error:
            raise self._error("the store cannot be read", error) from None
        return found

    async def began_with(self, text: StoredText) -> bool:
        """Whether a text is known to be the first of its name: it was written where there was none.

        Earlier ones may have been removed, as more than the history has, or by an administrator.

        Raises:
            SourceError: no server answers, or refuses.
        """
        try:
            message = await self._ask(self._context.get_msg(self._stream, seq=text.revision))
        except (nats.errors.Error, TimeoutError) as error:
            raise self._error(f"{text.name} cannot be read", error) from None
        return (message.headers or {}).get(Header.EXPECTED_LAST_SUBJECT_SEQUENCE) == "0"

    async def create(self, replicas: int, history: int, value_bytes: int | None) -> None:
        """Create the bucket, or leave it as it is.

        Raises:
            SourceError: no server answers, or refuses; such as fewer servers than replicas.
        """
        try:
            await self._ask(
                self._context.create_key_value(
                    bucket=self._bucket,
                    history=history,
                    replicas=replicas,
                    max_value_size=value_bytes,
                    direct=True,
                )
            )
        except (nats.errors.Error, TimeoutError) as error:
            raise self._error(f"the bucket {self._bucket} cannot be created", error) from None

    async def _ask(self, request: Coroutine[Any, Any, T], name: str | None = None) -> T:
        """The answer to a request about a name, or about the bucket."""
        # The quotation mark is the end: nodes.ams1 is not meant by what concerns nodes.ams12.
        subject = self._stream if name is None else f'{self.subject(key_of(name))}"'
        return await self._connection.answer(request, subject)

    @property
    def _stream(self) -> str:
        return f"KV_{self._bucket}"

    @property
    def _values(self) -> KeyValue:
        return self._objects()[0]

    @property
    def _context(self) -> JetStreamContext:
        return self._objects()[1]

    def _objects(self) -> tuple[KeyValue, JetStreamContext]:
        client = self._connection.client
        if self._made is None or self._made[0] is not client:
            context = client.jetstream(timeout=REQUEST_S)
            # Not `key_value`, which asks for facts about the stream that agents may not read.
            prefix = f"$KV.{self._bucket}."
            values = KeyValue(self._bucket, self._stream, prefix, context, direct=True)
            self._made = client, values, context
        return self._made[1], self._made[2]

    def _error(self, text: str, error: Exception) -> SourceError:
        if isinstance(error, nats.js.errors.APIError):
            # Some errors of this class have no description.
            return SourceError(f"{text}: {getattr(error, 'description', None) or error}")
        if isinstance(error, nats.errors.NoRespondersError | nats.js.errors.NoStreamResponseError):
            return SourceError(f"{text}: the servers have no such store, or too few of them run")
        if isinstance(error, RequestRefused):
            return SourceError(f"{text}: {error}")
        kind = SourceError if self._connection.refusal else SourceTimeout
        return kind(self._connection.trouble(f"{text}: no server answered in {REQUEST_S:.0f} s"))


def _stored(entry: KeyValue.Entry) -> StoredText:
    written: object = entry.created
    return StoredText(
        name_of(entry.key),
        (entry.value or b"").decode(errors="replace"),
        entry.revision or 0,
        written.timestamp() if isinstance(written, datetime) else None,
    )


def _token(text: str) -> str:
    return _RESERVED.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), text)


def _unescape(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("=", "")).decode(errors="replace")
