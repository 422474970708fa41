"""Where a search server is and how to log on: LEXLIP_BENCH_<PRODUCT>_URL, and _API_KEY or _USER and _PASSWORD.

Only the environment holds them: no record, file or message does. `clean` replaces them in what a client reports.
"""

import contextlib
import os
import re
from urllib.parse import urlsplit

from models.errors import InputError

SECRETS = ("API_KEY", "PASSWORD")
LONGEST = 500  # characters of a client's message


def variable(product: str, name: str) -> str:
    """Name of an environment variable. product: QDRANT, MILVUS or OPENSEARCH. name: URL, API_KEY, USER or PASSWORD."""
    return f"LEXLIP_BENCH_{product}_{name}"


def setting(product: str, name: str) -> str:
    """Value of an environment variable; "" when unset."""
    return os.environ.get(variable(product, name), "").strip()


def url(product: str) -> str:
    """The server's URL. Raises InputError, without its text, if it is malformed or holds a secret."""
    text, problem = setting(product, "URL"), None
    try:
        parts = urlsplit(text)
        _ = parts.port
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "not a URL"
        elif parts.username or parts.password or parts.query or parts.fragment:
            problem = "a user, a password or parameters in it"
    except ValueError:
        problem = "not a URL"
    if problem:
        key, user, password = (variable(product, name) for name in ("API_KEY", "USER", "PASSWORD"))
        expected = f"http://host:port or https://host:port (log on by {key}, or {user} and {password})"
        raise InputError(f"{variable(product, 'URL')}: {problem}; expected {expected}")
    return text


def clean(product: str, text: str) -> str:
    """A message as one line of at most `LONGEST` characters, in which variable names replace secrets and addresses."""
    for name in SECRETS:
        if value := setting(product, name):
            text = text.replace(value, f"<{variable(product, name)}>")
    if address := setting(product, "URL"):
        text = text.replace(address, f"<{variable(product, 'URL')}>")
        with contextlib.suppress(ValueError):
            host = re.escape(urlsplit(address).hostname or address)
            text = re.sub(rf"(?<![\w.-]){host}(?![\w-])", f"<{variable(product, 'URL')}>", text)
    return " ".join(text.split())[:LONGEST]
