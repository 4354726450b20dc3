"""What runs where: pure functions of the hosts file and the settings, so that the same two always mean
the same cluster, and --dry-run shows exactly what would be done.
"""
import ipaddress
import json
import os
from dataclasses import asdict, dataclass, field

from bundle import Broken
from hosts_file import in_url

DRAIN_SECONDS = 30
STOP_SECONDS = DRAIN_SECONDS + 10
LOCK_SECONDS = 45  # that a request waits for an earlier one, as in host.py
GONE = ("dead", "missing")  # states of units that don't run


@dataclass
class Settings:
    """The flags of `up`, remembered for the commands that follow."""
    queues: list = field(default_factory=lambda: ["default=echo"])
    pool: str = ""
    workers: int = -1  # -1: one on each host of that role
    port_base: int = 5570
    config: dict = field(default_factory=dict)  # role -> a TOML file for its program
    insecure: bool = False
    drained: list = field(default_factory=list)  # hosts on which no worker shall run

    @classmethod
    def load(cls, path):
        if not path.exists():
            return None
        try:
            settings = cls(**json.loads(path.read_text()))
        except (ValueError, TypeError):
            settings = None
        if settings is None or any(type(value) is not type(getattr(cls(), name))
                                   for name, value in asdict(settings).items()):
            raise Broken(65, f"{path} is damaged; remove it, and run `up` again with all its flags")
        return settings

    def moves_to(self, other):
        """What these have and the others don't, of that which can't change while anything runs."""
        moves = [f"with --port-base {self.port_base}"] if self.port_base != other.port_base else []
        if self.insecure != other.insecure:
            moves.append("without keys (--insecure)" if self.insecure else "with keys (--no-insecure)")
        return moves

    def save(self, path):
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(partial, path)


def of_role(hosts, role):
    return [host for host in hosts if role in host.roles]


def select(hosts, words):
    """The hosts of these names or labels, `label=A` or `A`; all without any."""
    if not words:
        return list(hosts)
    chosen = []
    for word in words:
        label = word[6:] if word.startswith("label=") else None
        found = [host for host in hosts
                 if (label in host.labels if label else word in (host.text, host.key, host.name or ":"))]
        if not found:
            raise ValueError(f"no host in the hosts file has the name or label '{word}'")
        chosen += [host for host in found if host not in chosen]
    return chosen


def spread(hosts, settings):
    """How many workers each host runs: evenly, the earlier ones of the file first."""
    able = [host for host in of_role(hosts, "worker") if host.text not in settings.drained]
    total = len(able) if settings.workers < 0 else settings.workers
    counts = {host.text: 0 for host in hosts}
    for i, host in enumerate(able):
        counts[host.text] = total // len(able) + (1 if i < total % len(able) else 0)
    return counts


def placed(hosts, settings):
    """How many workers have a place."""
    return sum(spread(hosts, settings).values())


def is_loopback(address):
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def listen_address(host):
    """An address is bound as it stands; under a name it could be any of the host's."""
    try:
        return in_url(str(ipaddress.ip_address(host.reached_as)))
    except ValueError:
        return "127.0.0.1" if host.reached_as == "localhost" else "0.0.0.0"


def http_of_broker(settings):
    """Only for those who are on the broker's host: cluster.sh asks there, over ssh."""
    return f"127.0.0.1:{settings.port_base + 10}"


def http_of_gateway(host, settings):
    return f"{listen_address(host)}:{settings.port_base + 20}"


def brokers_of(hosts, port):
    return ",".join(f"{in_url(host.reached_as)}:{port}" for host in of_role(hosts, "broker"))


def client_keys(settings):
    return [] if settings.insecure else ["--curve-key", "etc/host.key", "--curve-broker", "etc/broker.pub"]


def configuration(role, settings):
    return ["--config", f"etc/{role}.toml"] if role in settings.config else []


def broker_command(host, settings):
    listen = listen_address(host)
    command = ["bin/millrace-broker", "serve", "--frontend", f"tcp://{listen}:{settings.port_base}",
               "--backend", f"tcp://{listen}:{settings.port_base + 1}", "--http", http_of_broker(settings),
               *configuration("broker", settings)]
    if not settings.insecure:
        return command + ["--curve-key", "etc/broker.key", "--curve-allow", "etc/allow"]
    return command if is_loopback(listen) else command + ["--insecure"]


def worker_name(host, unit):
    """As the broker shows it."""
    return f"{host.key}.{unit}"


def worker_command(host, unit, hosts, settings):
    pool = f"fixed:{host.threads}" if host.threads else settings.pool
    command = ["bin/millrace-worker", "run", "--broker", brokers_of(hosts, settings.port_base + 1)]
    for queue in settings.queues:
        command += ["--queue", queue]
    for label in host.labels:
        command += ["--label", label]
    return command + (["--pool", pool] if pool else []) + [
        "--drain-timeout", f"{DRAIN_SECONDS}s", "--name", worker_name(host, unit),
        *configuration("worker", settings), *client_keys(settings)]


def gateway_command(host, hosts, settings):
    listen = listen_address(host)
    token = [] if is_loopback(listen) else ["--token-file", "etc/gateway-token"]
    return ["bin/millrace-producer", "gateway", "--http", http_of_gateway(host, settings),
            "--broker", brokers_of(hosts, settings.port_base),
            *token, *configuration("gateway", settings), *client_keys(settings)]


def units_of(host, hosts, settings):
    """name -> command of all that runs on a host, but its broker."""
    units = {}
    if "gateway" in host.roles:
        units["gateway"] = gateway_command(host, hosts, settings)
    for number in range(1, spread(hosts, settings)[host.text] + 1):
        unit = f"worker-{number}"
        units[unit] = worker_command(host, unit, hosts, settings)
    return units


def all_units_of(host, hosts, settings):
    """The names of all that runs on a host."""
    broker = ["broker"] if "broker" in host.roles else []
    return broker + list(units_of(host, hosts, settings))


@dataclass(frozen=True)
class Worker:
    host: object
    unit: str

    @property
    def name(self):
        return worker_name(self.host, self.unit)


def workers_of(hosts, settings):
    """All that should be registered."""
    counts = spread(hosts, settings)
    return [Worker(host, f"worker-{number}") for host in hosts for number in range(1, counts[host.text] + 1)]
