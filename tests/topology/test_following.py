"""`mcr relay` and the interfaces it waits for, without root; descriptors; sockets per worker."""

import contextlib
import re
import signal
from functools import partial
from pathlib import Path

from tests.support.deadline import wait_until

from .checks import PROCESS_S, assert_balanced, settle_sent
from .lab import Lab
from .relays import Ingress, relaying
from .test_command import Process, command
from .test_interfaces import (
    GROUP,
    OUT_0,
    OUT_1,
    RESUME_S,
    RULE,
    cut,
    lab,
    lay,
    reaches,
)
from .traffic import payloads

__all__ = ["lab"]  # The fixture: a network that may be taken apart.
SPARE_SOCKETS = 8
MANY_OUTPUTS, MANY_INPUTS = 60, 45


def test_the_command_follows_as_nobody(lab: Lab, ingress: Ingress) -> None:
    """Without root it reopens sockets, until its spare ones are used up."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(lab.receive(OUT_0, 6001))
        options = ("--ingress", ingress, "--workers", "2", "--json")
        process = stack.enter_context(command(lab, RULE, *options))
        process.wait_ready()
        for _ in range(SPARE_SOCKETS):
            cut(lab, "in0")
            lay(lab, "in0")
            with lab.sender(GROUP, 5001) as sender:
                wait_until(partial(reaches, sender, first), 2 * RESUME_S)
        cut(lab, "out1")
        lay(lab, "out1")
        second = stack.enter_context(lab.receive(OUT_1, 6001, "d1"))
        with lab.sender(GROUP, 5001) as sender:
            wait_until(partial(reaches, sender, second), 2 * RESUME_S)
        cut(lab, "in0")
        lay(lab, "in0")
        if ingress == "udp":
            with lab.sender(GROUP, 5001) as sender:
                wait_until(partial(reaches, sender, first), 2 * RESUME_S)
        else:
            process.wait_for("are used up: restart mcr")
        process.process.send_signal(signal.SIGTERM)
        assert_balanced(process.report())


def test_the_command_starts_without_its_interface(lab: Lab, ingress: Ingress) -> None:
    """It warns once, names what it waits for, and relays once the interface exists."""
    cut(lab, "in0")
    with (
        lab.receive(OUT_0, 6001) as receiver,
        command(lab, RULE, "--ingress", ingress, "--json") as process,
    ):
        process.wait_ready()
        process.wait_for("unresolved: there is no interface in0")
        lines = process.log.splitlines()
        warnings = [line for line in lines if line.startswith("warning: rule 1, input, interface")]
        assert len(warnings) == 1
        assert warnings[0].endswith("; the rule waits for it")
        lay(lab, "in0")
        with lab.sender(GROUP, 5001) as sender:
            wait_until(partial(reaches, sender, receiver), 2 * RESUME_S)
        process.process.send_signal(signal.SIGTERM)
        assert_balanced(process.report())


def test_kept_senders_of_an_output_on_a_later_interface(lab: Lab, ingress: Ingress) -> None:
    """Privileged options are set at the start, before root is given up."""
    cut(lab, "out1")
    rule = f"{GROUP}%in0:5001 to {OUT_0}%out1:6001,source=keep {OUT_1}%out1:6001,sport=keep"
    with (
        command(lab, rule, "--ingress", ingress, "--workers", "2", "--json") as process,
        lab.sender(GROUP, 5001, source=("10.1.0.2", 4001)) as sender,
    ):
        process.wait_ready()
        lay(lab, "out1")
        with (
            lab.receive(OUT_0, 6001, "d1") as by_source,
            lab.receive(OUT_1, 6001, "d1") as by_port,
        ):
            for receiver in (by_source, by_port):
                wait_until(partial(reaches, sender, receiver), 2 * RESUME_S)
            assert by_source.sources[-1][0] == "10.1.0.2"
            assert by_port.sources[-1] == ("10.3.0.1", 4001)
        process.process.send_signal(signal.SIGTERM)
        assert_balanced(process.report())


def test_a_source_port_of_an_output_on_a_later_interface(lab: Lab) -> None:
    """The port is bound once the interface exists."""
    cut(lab, "out1")
    rule = f"{GROUP}%in0:5001 to {OUT_1}%out1:6001,sport=7777"
    with relaying(lab.relay, rule), lab.sender(GROUP, 5001) as sender:
        lay(lab, "out1")
        with lab.receive(OUT_1, 6001, "d1") as receiver:
            wait_until(partial(reaches, sender, receiver), 2 * RESUME_S)
            assert receiver.sources[-1] == ("10.3.0.1", 7777)


def limited(lab: Lab, soft: int, hard: int) -> contextlib.AbstractContextManager[Process]:
    """The command with many inputs and outputs, and a limit on descriptors."""
    outputs = " ".join(f"239.2.101.{number}%out0:6001" for number in range(MANY_OUTPUTS))
    rules = [f"{GROUP}%in0:5001 to {outputs}"]
    rules += [f"239.1.101.{n}%big:5001 to 239.2.102.{n}%out0:6001" for n in range(MANY_INPUTS)]
    rules += [f"10.1.0.{n}@232.1.101.1%big:5001 to 239.2.103.{n}%out1:6001" for n in range(5)]
    limits = ("prlimit", f"--nofile={soft}:{hard}")
    return command(lab, *rules, "--workers", "2", before=limits)


def test_descriptors_are_raised_to_what_is_needed(lab: Lab) -> None:
    """The soft limit grows to what the rules need, not to the hard limit."""
    with limited(lab, 64, 4096) as process:
        process.wait_ready()
        limits = Path(f"/proc/{process.process.pid}/limits").read_text().splitlines()
        (line,) = (line for line in limits if line.startswith("Max open files"))
        soft, hard = map(int, line.split()[3:5])
        assert 2 * MANY_OUTPUTS < soft < hard == 4096


def test_too_few_descriptors_are_refused_beforehand(lab: Lab) -> None:
    """The error has both numbers, and the requested one is enough."""
    with limited(lab, 64, 100) as process:
        _, log = process.process.communicate(timeout=PROCESS_S)
        assert process.process.returncode == 2
        assert "and its hard limit is 100; raise it" in log
        (needed,) = re.findall(r"the rules need (\d+) descriptors", log)
    with limited(lab, 64, int(needed)) as process:
        process.wait_ready()


def test_each_worker_sends_by_itself(lab: Lab, ingress: Ingress) -> None:
    """Two workers have a source port each, or share the requested one."""
    rule = f"{GROUP}%in0:5001 to {OUT_0}%out0:6001,sport=7777 {OUT_1}%out1:6001"
    sent = payloads(10)
    with (
        lab.receive(OUT_0, 6001) as chosen,
        lab.receive(OUT_1, 6001, "d1") as free,
        relaying(lab.relay, rule, ingress=ingress, workers=2) as relay,
        contextlib.ExitStack() as stack,
    ):
        senders = [stack.enter_context(lab.sender(GROUP, 5001)) for _ in range(16)]
        for sender in senders:
            sender.send(sent)
        total = len(senders) * len(sent)
        chosen.wait_for(total)
        free.wait_for(total)
        assert set(chosen.sources) == {("10.2.0.1", 7777)}
        # Frames are spread over the workers; one socket of `udp` belongs to one of them.
        assert len(set(free.sources)) == (2 if ingress == "packet" else 1)
        settle_sent(relay, total, total)
