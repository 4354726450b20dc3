"""Several brokers seen as one cluster, by `millrace-broker status --http A,B`. Their HTTP listens on their own hosts only,
so what each has answered there is served once more here, on loopback, for as long as the command asks.
"""
import http.server
import json
import subprocess
import threading

from bundle import Broken


def serve(status):
    """A server of this status on a port of its own; 503 for None, a broker that did not answer."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(status).encode()
            self.send_response(200 if status else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def of(statuses, broker_program):
    """The sums of these statuses, None for each broker that did not answer."""
    servers = [serve(status) for status in statuses]
    addresses = ",".join(f"127.0.0.1:{server.server_port}" for server in servers)
    try:
        done = subprocess.run([broker_program, "status", "--http", addresses, "--json"], capture_output=True, text=True,
                              check=False)
        sums = json.loads(done.stdout)
    except OSError as error:
        raise Broken(69, f"can't run {broker_program}: {error.strerror}; build it: scripts/build.sh") from None
    except ValueError:
        raise Broken(69, f"{broker_program} can't combine the status of the brokers: {done.stderr.strip()}") from None
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    del sums["brokers"]  # under their temporary addresses; the report has them by host
    return {"answering": sum(status is not None for status in statuses), "asked": len(statuses), **sums}
