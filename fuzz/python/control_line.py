"""Lines of clients: each is answered as JSON-RPC says, and no exception leaves the dispatcher."""

import asyncio
import json
import sys

import atheris

with atheris.instrument_imports(include=["mcr.daemon.control.api", "mcr.rules", "mcr.errors"]):
    from mcr.daemon.control.api.jsonrpc import Dispatcher, Method, Result
    from mcr.daemon.control.api.method_types import METHOD_TYPES
    from mcr.protocol.constants import ErrorCode


async def serve(_caller: None, _params: object) -> Result:
    """Answer any request whose parameters are valid."""
    return {}


dispatcher = Dispatcher({name: Method(of.params, serve) for name, of in METHOD_TYPES.items()})
loop = asyncio.new_event_loop()


def fuzz_one(data: bytes) -> None:
    """Answer a line."""
    pieces = loop.run_until_complete(dispatcher.answer(data, None))
    if pieces is None:
        return
    answer = json.loads(b"".join(pieces))
    for each in answer if isinstance(answer, list) else [answer]:
        assert each["jsonrpc"] == "2.0"
        assert each.get("error", {}).get("code") != ErrorCode.INTERNAL


atheris.Setup(sys.argv, fuzz_one)
atheris.Fuzz()
