"""The one error that means "what you gave me is wrong", shared by every floor."""


class InputError(Exception):
    """Bad input from the user: a path, a value, a file that is broken.

    The message is one line that names what was wrong and what was expected. Commands print it and exit with code 2
    (`bench.cli.command`); nothing already computed is lost.
    """
