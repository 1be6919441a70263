"""The options of commands that use NATS servers."""

import inspect
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import McrError
from .usage import usage_of

if TYPE_CHECKING:
    from ..fleet.nats_connection import NatsSettings

_LIBRARIES = {"nats": "nats-py", "nkeys": "nkeys"}

CredentialsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Has the seed of an nkey, or a JWT and its seed."),
]
CaOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Certificates that may sign a server's; requires TLS."),
]
CertificateOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The own certificate for TLS.")
]
KeyOption = Annotated[Path | None, typer.Option(metavar="FILE", help="The key of --tls-cert.")]


def settings_of(
    servers: str,
    credentials: Path | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> "NatsSettings":
    """The settings of a connection, from the values of the options.

    Raises:
        McrError: the libraries of the extra are missing.
    """
    check_libraries()
    from ..fleet.nats_connection import NatsSettings  # noqa: PLC0415 -- needs the extra

    urls = tuple(each.strip() for each in servers.split(",") if each.strip())
    with usage_of("--nats, --creds or --tls-..."):
        return NatsSettings(urls, credentials, tls_ca, tls_cert, tls_key)


def check_libraries() -> None:
    """Check that the extra is installed.

    Raises:
        McrError: it is not.
    """
    missing = [name for module, name in _LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise McrError(
            f"NATS needs {' and '.join(missing)}; install them with pip install 'mcr-relay[fleet]'"
        )


def with_servers(function: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """The function as a command with the options of a connection, which it gets as `settings`.

    If servers are not required, `settings` is None without any.
    """
    added = {
        "nats": Annotated[
            str if required else str | None,
            typer.Option(metavar="URL,...", envvar="MCR_NATS", help="The NATS servers."),
        ],
        "creds": CredentialsOption,
        "tls_ca": CaOption,
        "tls_cert": CertificateOption,
        "tls_key": KeyOption,
    }

    @wraps(function)
    def command(**given: Any) -> Any:  # noqa: ANN401 -- of any function
        values = [given.pop(name) for name in added]
        settings = None if values[0] is None else settings_of(*values)
        return function(settings=settings, **given)

    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.name != "settings"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if required and name == "nats" else None,
            annotation=annotation,
        )
        for name, annotation in added.items()
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + options
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command
