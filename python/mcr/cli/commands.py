"""The list of commands, which `mcr --help` shows without loading their modules."""

from collections.abc import Mapping
from typing import NamedTuple

from ..rules.grammar import Noun

WRONG_USAGE = 2


class CommandEntry(NamedTuple):
    """A command as the list of commands has it."""

    target: str
    """Its module in this package, and there the function or the application."""
    group: str
    """The heading under which `mcr --help` lists it."""
    summary: str
    """The first line of its own help; `mcr --help` lists the commands without loading them."""
    examples: tuple[str, ...] = ()
    rules: tuple[Noun, ...] = ()
    """The endpoints of rules that its arguments have."""
    usage_code: int = WRONG_USAGE
    """The exit code for wrong usage."""


_RELAY, _DAEMON, _RULES, _DIAGNOSE = "Relay and test", "Daemon", "Rules of the daemon", "Diagnose"
_SHELL = "Service, shell and manual"

COMMANDS: Mapping[str, CommandEntry] = {
    "relay": CommandEntry(
        "relay:relay",
        _RELAY,
        "Relay by the given rules in the foreground, until Ctrl-C or SIGTERM.",
        (
            "mcr relay 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 192.0.2.7:7000,ttl=8",
            "mcr relay '239.1.1.1%eth0:5001 to 192.0.2.7:7000' \\\n"
            "            '239.1.1.2%eth0:5002 to 192.0.2.8:7000' --workers 2 --duration 60",
            "mcr relay 10.0.0.5@232.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 --json",
        ),
        rules=("input", "output"),
    ),
    "send": CommandEntry(
        "send:send",
        _RELAY,
        "Send a numbered test stream to a group or a host.",
        (
            "mcr send 239.1.1.1%eth0:5001,ttl=8 --rate 5000 --duration 10",
            "mcr send 192.0.2.7:7000 --size 200 --count 100000 --flood",
        ),
    ),
    "receive": CommandEntry(
        "receive:receive",
        _RELAY,
        "Receive a test stream and measure its loss, order and latency.",
        (
            "mcr receive 239.1.1.1%eth0:5001 --duration 10",
            "mcr receive 10.0.0.5@232.1.1.1%eth0:5001 --count 100000 --json",
        ),
    ),
    "serve": CommandEntry(
        "serve:serve",
        _DAEMON,
        "Run the daemon, which relays by the rules that clients set.",
        (
            "mcr serve --socket mcr.sock",
            "mcr serve --user nobody --config mcr.toml --state rules.json --workers 2",
        ),
    ),
    "config": CommandEntry("config:app", _DAEMON, "Check, show, save or describe configurations."),
    "plan": CommandEntry(
        "config:plan",
        _DAEMON,
        "Show what a configuration would change in the daemon; change nothing.",
        ("mcr plan mcr.toml",),
    ),
    "apply": CommandEntry(
        "config:apply",
        _DAEMON,
        "Make the rules of the daemon those of a configuration, in one transaction.",
        ("mcr apply mcr.toml", "mcr apply mcr.toml --prune --yes"),
    ),
    "agent": CommandEntry(
        "agent:agent",
        _DAEMON,
        "Keep the daemon's rules those of documents for this node, until SIGTERM or Ctrl-C.",
        (
            "mcr agent --directory /srv/fleet --node ams1",
            "mcr agent --directory /srv/fleet --node ams1 --label site=ams --prune",
            "mcr agent --nats nats://a:4222,nats://b:4222 --node ams1 --creds ams1.seed",
        ),
    ),
    "fleet": CommandEntry(
        "fleet:app", _DAEMON, "Show and change the rules of many hosts on NATS servers."
    ),
    "import": CommandEntry(
        "import_:import_",
        _DAEMON,
        "Print the configuration of another program as one of mcr.",
        ("mcr import smcroute /etc/smcroute.conf",),
    ),
    "reload": CommandEntry(
        "config:reload",
        _DAEMON,
        "Have the daemon read its configuration again, and wait for the result.",
        ("mcr reload", "mcr reload --prune"),
    ),
    "ping": CommandEntry(
        "observe:ping",
        _DAEMON,
        "Check that the daemon answers, and how many workers run.",
        ("mcr ping",),
    ),
    "log-level": CommandEntry(
        "observe:log_level",
        _DAEMON,
        "Show or set which messages the daemon logs.",
        (
            "mcr log-level",
            "mcr log-level warning",
            "mcr log-level debug --facility rules",
            "mcr log-level default --facility rules",
        ),
    ),
    "version": CommandEntry(
        "observe:version",
        _DAEMON,
        "Show the versions of this command and of the running daemon.",
        ("mcr version",),
    ),
    "shutdown": CommandEntry(
        "observe:shutdown",
        _DAEMON,
        "Shut the daemon down, and with it the traffic.",
        ("mcr shutdown",),
    ),
    "rule": CommandEntry(
        "rule:app", _RULES, "Add, edit, remove, list, enable, disable or replace rules."
    ),
    "class": CommandEntry("traffic_class:app", _RULES, "List, set or remove classes of traffic."),
    "interface": CommandEntry(
        "traffic_class:interface_app",
        _RULES,
        "Bound what all outputs on an interface send together.",
    ),
    "stats": CommandEntry(
        "stats:stats",
        _RULES,
        "Show what each rule received, sent and lost, and why.",
        (
            "mcr stats",
            "mcr stats 'A0*' --watch --sort rate",
            "mcr stats --only-problems --json",
        ),
    ),
    "top": CommandEntry(
        "top:top",
        _RULES,
        "Show rules, outputs, flows and drops on the whole screen, each second, until q.",
        ("mcr top", "mcr top 'A0*' --sort rate"),
    ),
    "flows": CommandEntry(
        "flows:flows",
        _RULES,
        "List who sends to each rule: counts, rates, TTL and DSCP, and what is lost before mcr.",
        ("mcr flows", "mcr flows feed-a --json"),
    ),
    "web": CommandEntry(
        "web:web",
        _DIAGNOSE,
        "Serve metrics for Prometheus, read-only JSON and a page about a daemon, over HTTP.",
        (
            "mcr web --socket /run/mcr/mcr-observers.sock",
            "mcr web --address 192.0.2.1 --token-file /etc/mcr/web.token",
        ),
    ),
    "doctor": CommandEntry(
        "doctor:doctor",
        _DIAGNOSE,
        "Find what keeps this host from relaying, with the fix for it.",
        (
            "mcr doctor",
            "mcr doctor 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
            "mcr doctor --interface eth0 --fix",
        ),
        rules=("input", "output"),
    ),
    "explain": CommandEntry(
        "explain:explain",
        _DIAGNOSE,
        "Say what becomes of a datagram: which rules relay it, what each output sends, or why not.",
        (
            "mcr explain 10.0.0.5:4000@239.1.1.1%eth0:5001 ttl=4 size=1200",
            "mcr explain -r capture.pcapng --interface eth0",
            "mcr explain 239.1.1.1%eth0:5001 --rule '239.1.1.1%eth0:5001 to 192.0.2.7:7000'",
        ),
    ),
    "streams": CommandEntry(
        "streams:streams",
        _DIAGNOSE,
        "List the multicast streams on links: sender, rate, sizes, contents and rules.",
        (
            "mcr streams %eth0 --seconds 10",
            "mcr streams %eth0 --rules --to %eth1,ttl=8",
        ),
    ),
    "trace": CommandEntry(
        "capture:trace",
        _DIAGNOSE,
        "Show what happens to single datagrams of a rule, step by step, with times.",
        ("mcr trace feed-a", "mcr trace feed-a --sample 1/1000 --follow"),
    ),
    "capture": CommandEntry(
        "capture:capture",
        _DIAGNOSE,
        "Capture datagrams as the daemon receives, sends and drops them.",
        (
            "mcr capture --rule feed-a -w feed-a.pcapng --seconds 10",
            "mcr capture --reason any",
            "mcr capture --rule feed-a --output 1 --sample 1/100",
        ),
    ),
    "check": CommandEntry(
        "check:check",
        _DIAGNOSE,
        "Check the daemon and its rules, as a plugin of Nagios, Icinga and others.",
        ("mcr check", "mcr check feed-a feed-b --loss-critical 0.1", "mcr check mcr.toml"),
        usage_code=3,  # UNKNOWN by the conventions for plugins of monitoring systems
    ),
    "events": CommandEntry(
        "observe:events",
        _DIAGNOSE,
        "Follow the events of the daemon, one line each, until Ctrl-C.",
        ("mcr events", "mcr events --last 20", "mcr events --after 0 --kind rule --kind worker"),
    ),
    "workers": CommandEntry(
        "observe:workers",
        _DIAGNOSE,
        "List the worker processes, their states and their last deaths.",
        ("mcr workers",),
    ),
    "interfaces": CommandEntry(
        "observe:interfaces",
        _DIAGNOSE,
        "List the network interfaces that the daemon sees.",
        ("mcr interfaces",),
    ),
    "install-service": CommandEntry(
        "install_service:install_service",
        _SHELL,
        "Install the daemon as a service of systemd.",
        (
            "mcr install-service --dry-run",
            "mcr install-service --prefix debian/mcr --program /opt/mcr/bin/mcr",
        ),
    ),
    "completion": CommandEntry(
        "completion:completion",
        _SHELL,
        "Print the script by which a shell completes commands, options, rules and interfaces.",
        ("mcr completion bash", "mcr completion fish"),
    ),
    "man": CommandEntry(
        "man:man",
        _SHELL,
        "Print the manual page of a command, or write those of all commands.",
        ("mcr man rule edit", "mcr man --directory /usr/local/share/man/man1"),
    ),
}
"""Every command by its name, in the order of the help."""
