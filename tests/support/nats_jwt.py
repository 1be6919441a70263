"""Decentralized authentication of NATS as `nsc` makes it: an operator, accounts, users with JWTs.

A JWT has a header, claims and a signature by the key of the issuer, each in base64url without
padding (nats-io/jwt, version 2 of the claims).
"""

import base64
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nkeys

_LIMITS = ("subs", "data", "payload")
_ACCOUNT_LIMITS = ("imports", "exports", "conn", "leaf")
_STORE_LIMITS = ("mem_storage", "disk_storage", "streams", "consumer")


class SigningKey:
    """The key of an operator, an account or a user."""

    def __init__(self, prefix: int) -> None:
        """Make one; the prefix says for whom."""
        self.seed: bytes = nkeys.encode_seed(os.urandom(32), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public: str = self._pair.public_key.decode()

    def sign(self, name: str, subject: str, claims: Mapping[str, Any], expires: float = 0) -> str:
        """A JWT about a subject, issued by this key; it expires at a Unix time, 0 is never."""
        body: dict[str, Any] = {
            "jti": base64.b32encode(os.urandom(32)).decode().rstrip("="),
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": {**claims, "version": 2},
        }
        if expires:
            body["exp"] = int(expires)
        parts = [_encoded({"typ": "JWT", "alg": "ed25519-nkey"}), _encoded(body)]
        signature = self._pair.sign(".".join(parts).encode())
        return ".".join([*parts, _base64(signature)])


class JwtAuthority:
    """An operator with one account that has JetStream, and the system's account."""

    def __init__(self) -> None:
        """Make all keys."""
        self._operator = SigningKey(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = SigningKey(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = SigningKey(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def configuration(self) -> str:
        """The lines for the configuration of a server: nothing secret."""
        operator, account, system = self._operator, self._account, self._system
        jwt = operator.sign("operator", operator.public, {"type": "operator"})
        jwts = [
            f"{key.public}: {operator.sign(name, key.public, _account_claims(limits))}"
            for name, key, limits in (
                ("fleet", account, _STORE_LIMITS),
                ("system", system, ()),
            )
        ]
        return "\n".join(
            (
                f"operator: {jwt}",
                f"system_account: {system.public}",
                "resolver: MEMORY",
                "resolver_preload: {",
                *jwts,
                "}",
            )
        )

    def write_user(
        self,
        path: Path,
        publish: Iterable[str] = (">",),
        subscribe: Iterable[str] = (">",),
        expires: float = 0,
    ) -> str:
        """Write the credentials file of a new user of the fleet's account; return its seed."""
        user = SigningKey(nkeys.PREFIX_BYTE_USER)
        claims = {
            "type": "user",
            "pub": {"allow": [*publish]},
            "sub": {"allow": [*subscribe]},
            **dict.fromkeys(_LIMITS, -1),
        }
        jwt = self._account.sign(path.stem, user.public, claims, expires)
        seed = user.seed.decode()
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
        path.chmod(0o600)
        return seed


def _account_claims(store_limits: Iterable[str]) -> dict[str, Any]:
    names = (*_LIMITS, *_ACCOUNT_LIMITS, *store_limits)
    limits = {**dict.fromkeys(names, -1), "wildcards": True}
    return {"type": "account", "limits": limits, "default_permissions": {"pub": {}, "sub": {}}}


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
