"""The run of `make long-chain`, with few datagrams."""

import pytest

from . import long_chain

pytestmark = pytest.mark.alone


def test_a_chain_accounts_for_every_datagram() -> None:
    """Below its capacity none is lost; above it each is counted where it was."""
    below, above = long_chain.run(20_000, 40_000, 20_000)
    print(below, above, sep="\n")
