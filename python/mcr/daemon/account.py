"""The account that a process becomes when it gives up root.

Owns which one that is. How it is done belongs to those who do it; knows no sockets.
"""

import os
import pwd
from dataclasses import dataclass

DEFAULT_USER = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that the process becomes."""

    name: str
    uid: int
    gid: int


def target_account(user: str | None) -> Account | None:
    """Return the account to become, or None for a process that is not root.

    Args:
        user: a user name, or None for `nobody`. The name of root itself means to stay root.

    Raises:
        ValueError: no such user, or the process is not root and so cannot become another user.
    """
    if os.geteuid() != 0:
        if user is None:
            return None
        raise ValueError("only root can become another user; leave it out, or use sudo")
    name = DEFAULT_USER if user is None else user
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ValueError(f"no user named {name!r} on this host") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
