"""The check of a configuration without a daemon."""

from .. import _native
from ..choices import Ingress
from ..config.reader import Configuration
from ..rules.hostnames import HostResolver
from ..rules.model import counted
from ..rules.ruleset import RuleSet
from .progress import progress


def check_configuration(configuration: Configuration) -> tuple[str, ...]:
    """Check rules beside each other and on this host, without a daemon; return the warnings.

    What this host lacks now, such as an interface, may come later, and is no mistake. Host names
    are not resolved.

    Raises:
        ConfigError: with all problems.
    """
    ingress: Ingress = "udp" if configuration.settings.get("ingress") == "udp" else "packet"
    host = _native.interfaces()
    with progress(f"checking {counted(len(configuration.rules))}"), configuration.placed():
        rules, shaping = configuration.parsed, configuration.shaping
        plan = RuleSet(ingress).plan(host, add=rules, names=HostResolver(), shaping=shaping)
        return plan.warnings
