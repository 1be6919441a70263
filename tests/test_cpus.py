"""The CPUs of the workers: valid lists, and their effect."""

import os
from pathlib import Path

import pytest

import mcr
from mcr.affinity import chosen_cpus

RULE = "239.79.2.1%lo:5079 to 127.0.0.1:7079"


@pytest.fixture
def six_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may use CPUs 0, 1, 2, 3, 5 and 8."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 5, 8})


@pytest.mark.usefixtures("six_cpus")
@pytest.mark.parametrize(
    ("asked", "workers", "given"),
    [
        ("0", 1, (0,)),
        ("0,2-3", 3, (0, 2, 3)),
        ("8,0", 2, (8, 0)),
        ("0-3", 2, (0, 1)),
        ([5, 1], 2, (5, 1)),
    ],
)
def test_each_worker_gets_the_next(asked: list[int] | str, workers: int, given: object) -> None:
    """In the order of the list, which need not be ascending."""
    assert chosen_cpus(asked, workers) == given


@pytest.mark.usefixtures("six_cpus")
@pytest.mark.parametrize(
    ("asked", "workers", "message"),
    [
        ("", 1, "'' is not a list of CPUs; write one such as 0,2-3"),
        ("0,", 1, "'0,' is not a list of CPUs"),
        ("-1", 1, "'-1' is not a list of CPUs"),
        ("3-2", 1, "'3-2' is not a range of CPUs; write one such as 2-3"),
        ("0-999999", 1, "'0-999999' is not a range of CPUs"),
        ([-1], 1, "is not a list of CPUs"),
        (["0"], 1, "is not a list of CPUs"),
        ("0,0-1", 1, "CPU 0 is listed twice"),
        ("0,4", 1, "this process may not use CPU 4; it may use 0-3,5,8"),
        ("4,6-7", 1, "this process may not use CPU 4,6-7; it may use 0-3,5,8"),
        ("0,1", 3, "3 workers need 3 CPUs; the list has 2"),
    ],
)
def test_invalid_lists_are_refused(asked: list[int] | str, workers: int, message: str) -> None:
    """The message names the valid CPUs."""
    with pytest.raises(ValueError, match=message):
        mcr.Relay(RULE, workers=workers, cpus=asked)


@pytest.mark.parametrize("text", [True, False], ids=["text", "numbers"])
def test_the_engines_stay_there(text: bool) -> None:
    """The kernel shows that each engine's thread may use its own CPU only."""
    cpus = sorted(os.sched_getaffinity(0), reverse=True)[:2]
    asked = ",".join(map(str, cpus)) if text else cpus
    with mcr.Relay(RULE, ingress="udp", workers=len(cpus), cpus=asked):
        assert engines() == {f"mcr-engine-{at}": str(cpu) for at, cpu in enumerate(cpus)}


def test_the_kernel_places_a_single_engine() -> None:
    """Without a list it may use all CPUs of the program."""
    allowed = Path("/proc/self/status").read_text().split("Cpus_allowed_list:")[1].split()[0]
    with mcr.Relay(RULE, ingress="udp"):
        assert engines() == {"mcr-engine-0": allowed}
    last = max(os.sched_getaffinity(0))
    with mcr.Relay(RULE, ingress="udp", cpus=[last]):
        assert engines() == {"mcr-engine-0": str(last)}


def engines() -> dict[str, str]:
    """The CPUs that each engine's thread may use, by its name."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("mcr-engine-"):
            status = (task / "status").read_text()
            found[name] = status.split("Cpus_allowed_list:")[1].split()[0]
    return found
