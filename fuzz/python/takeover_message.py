"""Messages between two supervisors: any bytes are a message that means the same again, or none."""

import sys

import atheris

with atheris.instrument_imports(include=["mcr.daemon.supervisor.handover"]):
    from mcr.daemon.supervisor.handover.form import Form, FormError, Kind, Needs, refusal_text


def fuzz_one(data: bytes) -> None:
    """Read the bytes as a message."""
    try:
        form = Form.from_bytes(data)
    except FormError:
        return
    assert Form.from_bytes(form.to_bytes()) == form
    if form.kind is Kind.HELLO:
        needs = Needs.read(form)
        assert Needs.read(needs.form()) == needs
        assert needs.refusal(needs) is None
    assert refusal_text(form.number, form.values[0])


atheris.Setup(sys.argv, fuzz_one)
atheris.Fuzz()
