"""The exchanges of the table. send is the client under test."""
import json

LARGE = bytes(8 << 20)


def rows(send, name):
    """Yields the lines. send(method, target, password, body) returns status, header, body."""

    def line(step, method, target, password="rabbit", body=None):
        status, header, text = send(method, target, password, body)
        if header.get("Content-Type") == "application/problem+json":
            text = json.loads(text)["type"].encode()
        return f"{step} {status} {text.decode()}", header

    for step, target in ("claim", "/inbox?wait=0"), ("wait", "/inbox?wait=1"):
        yield line(step, "GET", target)[0]
    yield line("send", "POST", "/inbox?to=" + name, body=b"hello")[0]
    text, header = line("receive", "GET", "/inbox?after=")
    yield text
    yield line("acknowledge", "GET", f"/inbox?after={header['X-Message-Id']}&wait=0")[0]
    yield line("large", "POST", "/inbox?to=" + name, body=LARGE)[0]
    yield line("wrong", "GET", "/inbox?wait=0", password="wrong")[0]
    yield line("large-wrong", "POST", "/inbox?to=" + name, password="wrong", body=LARGE)[0]
    yield line("delete", "DELETE", "/inbox")[0]
