"""What engines make of the edit of a rule that they have."""

from collections.abc import Mapping
from typing import Any


def edited(rules: Mapping[str, dict[str, Any]], edit: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a rule after an edit (`rules.spec.edit_spec`)."""
    before = rules[edit["id"]]
    outputs: list[Any] = []
    for piece in edit["outputs"]:
        if isinstance(piece, list):
            first, count = piece
            assert first + count <= len(before["outputs"])
            outputs += before["outputs"][first : first + count]
        else:
            outputs.append(piece)
    kept = {name: own for name, own in before.items() if name != "class"}
    own = {"class": edit["class"]} if "class" in edit else {}
    return {**kept, **own, "enabled": edit["enabled"], "outputs": outputs}
