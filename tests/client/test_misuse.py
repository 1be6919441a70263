"""Wrong arguments of a client's methods: an error of mcr that does not blame the connection."""

import inspect

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.misuse import misuse, wrong_arguments

import mcr

RULE = "239.1.1.1%lo:5023,name=one to 127.0.0.1:9"
VALID = {"which": "one", "rule": "one", "rules": [RULE], "datagrams": [], "level": "info"}
METHODS = sorted(
    name
    for name, method in vars(mcr.Client).items()
    if name[0] != "_"
    and callable(method)
    and name != "request"
    and len(inspect.signature(method).parameters) > 1
)


@pytest.mark.parametrize("name", METHODS)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_methods(name: str, data: st.DataObject, control: FakeSupervisor) -> None:
    """Whether the client or the daemon notices."""
    with mcr.Client(control.path) as client:
        method = getattr(client, name)
        result = misuse(method, data.draw(wrong_arguments(method, VALID)))
        if isinstance(result, mcr.EventStream | mcr.TapStream):
            result.close()
        assert client.ping(), "a refusal costs no connection"


def test_all_requests_are_tried() -> None:
    """Each method with arguments, and the streams."""
    assert {"add_rules", "edit_rule", "events", "capture", "set_log_level"} <= {*METHODS}
