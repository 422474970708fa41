"""The environment of search servers: URLs, secrets removed from messages, and batches sent by threads."""

import numpy as np
import pytest

from bench import engines
from bench.engines.servers import common as servers
from bench.engines.servers import environment
from bench.vectors.read import LexiconVectors
from models.errors import InputError
from tests.bench.engines.servers.stand_in import SECRET, USER


@pytest.mark.parametrize("name", ["qdrant", "milvus", "opensearch"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"http://{USER}:{SECRET}@host:9200", "a user, a password"),
        (f"https://host/?token={SECRET}", "a user, a password or parameters"),
        ("host:9200", "not a URL"),
        ("http://host:none", "not a URL"),
        ("http://[host", "not a URL"),
    ],
)
def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(name, url, problem, tmp_path, monkeypatch):
    pytest.importorskip({"qdrant": "qdrant_client", "milvus": "pymilvus", "opensearch": "opensearchpy"}[name])
    monkeypatch.setenv(environment.variable(name.upper(), "URL"), url)
    with pytest.raises(
        InputError, match=f"LEXLIP_BENCH_{name.upper()}_URL: {problem}.*LEXLIP_BENCH_{name.upper()}_PASSWORD"
    ) as refused:
        engines.get(name).build(LexiconVectors.of(np.eye(3, dtype=np.uint8)), tmp_path)
    assert SECRET not in str(refused.value) and "host:9200" not in str(refused.value)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_send_batches_until_one_fails(threads):
    sent, read = [], []

    def batches(count):
        for number in range(count):
            read.append(number)
            yield (number,)

    servers.in_threads(batches(40), sent.append, threads)
    assert sorted(sent) == list(range(40))
    read.clear()
    with pytest.raises(ZeroDivisionError):
        servers.in_threads(batches(10**6), lambda number: 1 // (number - 5), threads)
    assert 6 <= len(read) < 10**6


def test_messages_hold_no_secret_or_address(monkeypatch):
    monkeypatch.setenv("LEXLIP_BENCH_MILVUS_URL", "https://db.home.org:1/x")
    monkeypatch.setenv("LEXLIP_BENCH_MILVUS_API_KEY", "key")
    found = environment.clean("MILVUS", "no key at https://db.home.org:1/x, db.home.org:1 or a.db.home.org")
    key, url = "<LEXLIP_BENCH_MILVUS_API_KEY>", "<LEXLIP_BENCH_MILVUS_URL>"
    assert found == f"no {key} at {url}, {url}:1 or a.db.home.org"
    assert environment.clean("MILVUS", "a\n" + 498 * "b" + "key") == "a " + 498 * "b"
