"""The gateway as a process, and an HTTP client that can misbehave."""
import json
import socket
import urllib.error
import urllib.request

import harness
from harness import BIN, Process, free_ports, wait_until


class Gateway(Process):
    def __init__(self, case, broker, *flags, name="gateway"):
        [self.port] = free_ports(1)
        super().__init__(case, name, [BIN / "millrace-producer", "gateway", "--broker",
                                      f"127.0.0.1:{broker.frontend_port}", "--http", f"127.0.0.1:{self.port}", *flags])

    def start(self, ready=True):
        super().start()
        wait_until(lambda: self.status("/readyz" if ready else "/healthz") == 200, what="the gateway being ready")
        return self

    def status(self, path):
        try:
            return self.get(path)[0]
        except OSError:
            assert self.running(), self.text()[-2000:]
            return 0

    def get(self, path, **headers):
        return self.ask("GET", path, None, headers)

    def post(self, path, body=b"", **headers):
        return self.ask("POST", path, body, headers)

    def submit(self, queue, body, query="", **headers):
        """(status, JSON)"""
        status, _, answer = self.post(f"/v1/queues/{queue}/jobs{query}", body, **headers)
        return status, json.loads(answer)

    def ask(self, method, path, body, headers):
        """(status, headers, body)"""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=harness.DEADLINE) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()
        except urllib.error.URLError as error:
            raise OSError(str(error)) from error

    def raw(self):
        return RawClient(self.port)


class RawClient:
    """A connection on which any bytes can be sent, and whole responses are read."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE)
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, text):
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())
        return self

    def finish(self):
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def receive(self):
        more = self.socket.recv(65536)
        self.received += more
        return bool(more)

    def reply(self):
        """(status, headers, body)"""
        while b"\r\n\r\n" not in self.received:
            assert self.receive(), f"the connection ended after {self.received!r}"
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self.received) < length:
            assert self.receive(), "the body is cut short"
        body, self.received = self.received[:length], self.received[length:]
        return int(first.split()[1]), headers, body

    def closed(self):
        """Nothing more comes, and the other side has closed."""
        try:
            return not self.received and not self.receive()
        except ConnectionResetError:
            return True


def post(queue, body, headers=""):
    """A request as it goes over the wire."""
    body = body if isinstance(body, bytes) else body.encode()
    return (f"POST /v1/queues/{queue}/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            f"{headers}\r\n").encode() + body
