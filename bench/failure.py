"""The one error of the bench: what cannot run here, in a sentence."""


class BenchError(Exception):
    """Something the bench needs is missing, or a peer failed; the text says which."""
