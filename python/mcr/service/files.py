"""The files of the service: the unit, its user, its directories and a configuration to start with.

Pure text; nothing is read or written here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

USER = "mcr"
"""The user of the processes without rights. Members of its group are clients of the daemon."""
CONFIGURATION = Path("/etc/mcr/mcr.toml")
UNIT = Path("/etc/systemd/system/mcr.service")


class ServiceFile(NamedTuple):
    """A file with its text."""

    text: str
    is_configuration: bool = False
    """Whether it belongs to the operator: it is neither overwritten nor removed."""


def service_files(
    program: Path, completions: Mapping[Path, str], systemd: int | None = None
) -> dict[Path, ServiceFile]:
    """All files of the service by their absolute paths.

    Args:
        program: the absolute path of the command `mcr`, without spaces.
        completions: the scripts of shells by their paths.
        systemd: as for `unit_text`.
    """
    return {
        UNIT: ServiceFile(unit_text(program, systemd)),
        Path("/etc/sysusers.d/mcr.conf"): ServiceFile(_SYSUSERS),
        Path("/etc/tmpfiles.d/mcr.conf"): ServiceFile(_TMPFILES),
        CONFIGURATION: ServiceFile(_CONFIGURATION, is_configuration=True),
        **{path: ServiceFile(text) for path, text in completions.items()},
    }


def unit_text(program: Path, systemd: int | None = None) -> str:
    """The unit of systemd that starts a program.

    Args:
        program: the absolute path of the command `mcr`, without spaces.
        systemd: the version that will read the unit; None if it is unknown, and may be old.
    """
    has_reload = systemd is not None and systemd >= _NOTIFY_RELOAD
    return _UNIT.replace("TYPE", _RELOADING if has_reload else "Type=notify").replace(
        "PROGRAM", str(program)
    )


_NOTIFY_RELOAD = 253  # systemd.service(5)
_RELOADING = """\
Type=notify-reload
# Without effect: the command below reloads, and unlike a signal it can be refused.
ReloadSignal=SIGCONT"""


_SYSUSERS = f"""\
# The user that mcr becomes. Members of the group {USER} may change the rules of the daemon.
u {USER} - "Multicast relay"
"""

_TMPFILES = """\
# Files that the configuration of mcr includes.
d /etc/mcr/conf.d 0755 root root -
"""

_CONFIGURATION = """\
# The configuration of the daemon. `mcr check FILE` reports every mistake, `mcr plan FILE` shows
# what the file would change, and `systemctl reload mcr` makes the daemon read its rules again.
include = "conf.d/*.toml"

[daemon]
# The options of `mcr serve`; a change of them needs a restart.
# workers = 2
# ingress = "packet"

[defaults]
# What rules leave out.
# input.interface = "eth0"
# output.interface = "eth1"
# output.ttl = 8

# [[rules]]
# rule = "239.1.1.1%eth0:5001,name=feed-a to 239.2.0.1%eth1:6001 192.0.2.7:7000"
"""

_UNIT = f"""\
# The daemon as a service. The supervisor keeps the capabilities listed below; the processes that
# serve clients or touch datagrams become the user {USER} and have none. Clients are root and the
# members of the group {USER}.
[Unit]
Description=Multicast relay
After=network.target

[Service]
TYPE
ExecStart=PROGRAM serve --user {USER} --config {CONFIGURATION} --state /var/lib/mcr/rules
# Fails, and leaves everything as it is, if the configuration is refused.
ExecReload=PROGRAM reload
# SIGTERM goes to the supervisor alone, which has the others send what they have received.
KillMode=mixed
# The supervisor restarts a process that hangs; it resets this watchdog while every worker relays.
WatchdogSec=30
Restart=on-failure
RuntimeDirectory=mcr
# What mcr has to restore on interfaces after it was killed (`--offload`).
RuntimeDirectoryPreserve=yes
StateDirectory=mcr
StateDirectoryMode=0700
# Each output of a rule has a socket, and the supervisor holds a duplicate of it.
LimitNOFILE=524288
# With CAP_IPC_LOCK the workers' rings do not count towards what their user may lock.
CapabilityBoundingSet=CAP_NET_RAW CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_IPC_LOCK CAP_SETUID
CapabilityBoundingSet=CAP_SETGID CAP_SETPCAP CAP_KILL
# For `--offload`, to load the programs of the relay in the kernel; dropped without that option.
CapabilityBoundingSet=CAP_BPF CAP_PERFMON
NoNewPrivileges=yes
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# Inputs, outputs, clients, links; AF_XDP for `--egress xdp`.
RestrictAddressFamilies=AF_INET AF_INET6 AF_PACKET AF_NETLINK AF_UNIX AF_XDP
SystemCallArchitectures=native
# The last ones are what the processes confine themselves with, and what `--offload` needs.
SystemCallFilter=@system-service seccomp bpf
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
