"""The options that several commands have, declared once. Knows no command."""

from typing import Annotated

import typer

Count = Annotated[str | None, typer.Option(metavar="N", help="End after so many datagrams.")]
Duration = Annotated[str | None, typer.Option(metavar="SECONDS", help="End after this time.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
AcceptBadChecksums = Annotated[
    bool,
    typer.Option(
        "--accept-bad-checksums",
        help="Relay datagrams whose UDP checksum is wrong too (packet ingress only).",
    ),
]
