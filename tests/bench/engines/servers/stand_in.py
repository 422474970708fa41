"""A stand-in for Qdrant and OpenSearch: enough of their HTTP for the engines, by multiplying matrices."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np

SECRET, USER = "s3cret-of-the-tests", "the-user"
BYTES = 4711  # that OpenSearch reports
UNLUCKY = 13  # results for which OpenSearch answers with an error


class StandIn(ThreadingHTTPServer):
    """Collections in memory: name -> {"made": body of its creation, "items": {id: vector}}.

    busy: number of requests that are refused first. refuses: every request is refused with the secret in the answer.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.collections, self.requests, self.headers, self.busy, self.refuses = {}, [], [], 0, False
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        parts = [part for part in urlsplit(self.path).path.split("/") if part]
        self.server.requests.append((self.command, *parts))
        self.server.headers.append(dict(self.headers))
        if self.server.refuses:
            self._send(401, {"error": f"no entry for {SECRET} at {self.server.url}"})
        else:
            self._send(*(self._qdrant if parts[:1] == ["collections"] else self._opensearch)(parts, body))

    do_GET = do_PUT = do_DELETE = do_POST

    def log_message(self, *_):
        pass

    def _send(self, status, answer):
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _qdrant(self, parts, body):
        collections, (_, name, *rest), body = self.server.collections, parts, json.loads(body or "{}")
        if self.command == "DELETE":
            return 200, {"result": collections.pop(name, None) is not None}
        if self.command == "PUT" and not rest:
            collections[name] = {"made": body, "items": {}}
            return 200, {"result": True}
        if self.command == "PUT":
            self.server.busy -= 1
            if self.server.busy >= 0:
                return 500, {"status": {"error": "busy"}}
            for point in body["points"]:
                vector = point["vector"]["item"]
                collections[name]["items"][point["id"]] = (
                    dict(zip(vector["indices"], vector["values"], strict=True)) if isinstance(vector, dict) else vector
                )
            return 200, {"result": {"operation_id": 1, "status": "completed"}}
        if not rest:
            graph = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}
            optimizer = {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            }
            config = {"params": {}, "hnsw_config": graph, "optimizer_config": optimizer}
            about = {
                "status": "green",
                "optimizer_status": "ok",
                "segments_count": 1,
                "config": config,
                "payload_schema": {},
            }
            return 200, {"result": about}
        items = collections[name]["items"]
        if rest[-1] == "count":
            return 200, {"result": {"count": len(items)}}
        answers = []
        for query in body["searches"]:
            vector = (
                query["query"].get("nearest", query["query"]) if isinstance(query["query"], dict) else query["query"]
            )
            if isinstance(vector, dict):
                vector = dict(zip(vector["indices"], vector["values"], strict=True))
            hits = best(items, vector, query["limit"])
            answers.append({"points": [{"id": item, "version": 0, "score": score} for item, score in hits]})
        return 200, {"result": answers}

    def _opensearch(self, parts, body):
        collections, name, operation = self.server.collections, parts[0] if parts else "", parts[-1] if parts else ""
        if operation == "_bulk":
            lines, items = [json.loads(line) for line in body.splitlines()], []
            for action, document in zip(lines[::2], lines[1::2], strict=True):
                at = action["index"]
                self.server.busy -= 1
                if self.server.busy < 0:
                    collections[at["_index"]]["items"][int(at["_id"])] = document["item"]
                items.append({"index": {"_id": at["_id"], "status": 429 if self.server.busy >= 0 else 201}})
            return 200, {"errors": any(item["index"]["status"] == 429 for item in items), "items": items}
        if self.command == "DELETE":
            return 200, {"acknowledged": collections.pop(name, None) is not None}
        if self.command == "PUT":
            collections[name] = {"made": json.loads(body), "items": {}}
            return 200, {"acknowledged": True}
        if operation == "_count":
            return 200, {"count": len(collections[name]["items"])}
        if "_stats" in parts:
            return 200, {"_all": {"total": {"store": {"size_in_bytes": BYTES}}}}
        if operation != "_msearch":
            return 200, {}
        answers = []
        for line in body.splitlines()[1::2]:
            query, items = json.loads(line), collections[name]["items"]
            if query["size"] == UNLUCKY:
                answers.append(
                    {"status": 400, "error": {"type": "unlucky_exception", "reason": f"{SECRET} is too large"}}
                )
                continue
            if "knn" in query["query"]:
                knn = query["query"]["knn"]["item"]
                hits = [(item, 1 + p if p >= 0 else 1 / (1 - p)) for item, p in best(items, knn["vector"], knn["k"])]
            else:
                clauses = [one["rank_feature"] for one in query["query"]["bool"]["should"]]
                assert all(clause["linear"] == {} for clause in clauses)
                hits = best(
                    items, {clause["field"].removeprefix("item."): clause["boost"] for clause in clauses}, query["size"]
                )
            found = [{"_id": str(item), "_score": score} for item, score in hits]
            answers.append({"status": 200} | ({"hits": {"hits": found}} if found else {}))
        return 200, {"responses": answers}


def best(items, query, k):
    """The k best (id, inner product); of sparse vectors those that share a name with the query."""
    if isinstance(query, dict):
        scores = [
            (item, sum(weight * query.get(name, 0) for name, weight in vector.items()))
            for item, vector in items.items()
        ]
        scores = [(item, score) for item, score in scores if score > 0]
    else:
        scores = [(item, float(np.dot(vector, query))) for item, vector in items.items()]
    return sorted(scores, key=lambda at: -at[1])[:k]
