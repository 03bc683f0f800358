"""What the command line refuses, in a sentence."""


class Refusal(Exception):
    """A sentence for the user, in place of a traceback."""
