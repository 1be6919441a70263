"""The account that a process takes when it gives up root."""

import os
import pwd
from dataclasses import dataclass

from ..capabilities import USER_CAPABILITIES, missing_capabilities, missing_text
from ..errors import RightsError

DEFAULT_USER = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A user with its group."""

    name: str
    uid: int
    gid: int


def target_account(user: str | None) -> Account | None:
    """Return the account to become, or None for a process that is not root.

    Args:
        user: a user name, or None for `nobody`. "root" means to stay root.

    Raises:
        ValueError: there is no such user, or the process is not root.
    """
    if os.geteuid() != 0:
        if user is None:
            return None
        raise ValueError("only root can become another user; omit the option, or use sudo")
    name = DEFAULT_USER if user is None else user
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ValueError(f"there is no user {name!r} on this host") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def check_may_become(account: Account | None) -> None:
    """Check that the processes of a daemon can become the account, before any is started.

    Raises:
        RightsError: this is root without the capabilities for it, as in a container that drops all.
    """
    if account is None or account.uid == os.geteuid():
        return
    missing = missing_capabilities(USER_CAPABILITIES)
    if missing:
        which = "it" if len(missing) == 1 else "them"
        raise RightsError(
            f"{missing_text(missing)}: a daemon that is started as root needs {which} to become the"
            f" user {account.name}; grant {which}, or start it as another user"
        )
