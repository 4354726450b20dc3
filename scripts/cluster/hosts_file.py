"""The hosts file of cluster.sh: the hosts of a cluster, and their roles.

A superset of the simple lines of GNU parallel's --sshloginfile:

    [threads/][user@]host[:port] [role=broker|worker|gateway[,...]] [labels=A,B] [address=ADDRESS]

`:` is this machine, `#` begins a comment, `node[1-4]` is a range (ClusterShell's NodeSet). Without a role a host is a worker.
Lines of the same host add up. `address` is the name under which the other hosts reach it.
"""
import ipaddress
import re
from dataclasses import dataclass, field

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

ROLES = ("broker", "worker", "gateway")
MAX_HOSTS = 4096  # a slip such as [1-99999999] must not fill the memory

LOGIN = re.compile(r"(?:(?P<threads>\d+)/)?(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<rest>\S+)$")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
LABEL = re.compile(r"[A-Za-z0-9._-]+$")


def in_url(address):
    """An IPv6 address before a port stands in brackets."""
    return f"[{address}]" if ":" in address else address


class BadHosts(Exception):
    """A line that is wrong; the message names file and line."""


@dataclass
class Host:
    name: str  # "" is this machine
    user: str = ""
    port: int = 22
    threads: int = 0  # 0: as the cluster's --pool says
    roles: list = field(default_factory=list)
    labels: list = field(default_factory=list)
    address: str = ""

    @property
    def local(self):
        return not self.name

    @property
    def text(self):
        """As in the hosts file, and in messages."""
        return ":" if self.local else in_url(self.name) + (f":{self.port}" if self.port != 22 else "")

    @property
    def key(self):
        """A name for files, of the letters that every shell and file system takes."""
        return re.sub(r"[^A-Za-z0-9.-]", "_", "this-machine" if self.local else re.sub(r"[][]", "", self.text))

    @property
    def reached_as(self):
        return self.address or self.name or "127.0.0.1"


def expand(text):
    """The names of `node[1-4]` or `rack[1-2]-[01-10,15]`."""
    if "[" not in text and "]" not in text:
        return [text]
    for first, last in re.findall(r"(\d+)-(\d+)", text):  # NodeSet would count to any number
        if not 0 <= int(last) - int(first) < MAX_HOSTS:
            raise ValueError(f"the range {first}-{last} in '{text}' is empty, or beyond {MAX_HOSTS} hosts")
    try:
        names = NodeSet(text, resolver=RESOLVER_NOGROUP)
    except NodeSetException as error:
        raise ValueError(f"'{text}' is not a range of hosts such as node[1-4]: {error}") from None
    if len(names) > MAX_HOSTS:
        raise ValueError(f"'{text}' names more than {MAX_HOSTS} hosts")
    return list(names)


def split_port(text):
    """host, port; an IPv6 address stands in brackets."""
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\](?::(\d+))?", text)
    if match:
        return [str(ipaddress.IPv6Address(match.group(1)))], match.group(2)
    host, colon, port = text.rpartition(":")
    if ":" in host:
        raise ValueError(f"'{text}' has more than one ':'; write an IPv6 address in brackets: [2001:db8::5], or "
                         "[2001:db8::5]:22 with a port")
    if colon and not port.isdigit():
        raise ValueError(f"'{port}' of '{text}' is not a port; write host or host:port")
    return expand(host if colon else text), port if colon else None


def parse_address(text):
    """An IP address, in brackets or not, or a name."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if not NAME.match(text) or re.fullmatch(r"[0-9.]+", text):
            raise ValueError(f"'{text}' is not an address; write an IP address or a name, without a port") from None
        return text
    if address.is_unspecified:
        raise ValueError(f"'{text}' is not an address at which the other hosts can reach this one")
    return str(address)


def parse_options(words):
    roles, labels, address = [], [], ""
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise ValueError(f"'{word}' is not role=…, labels=… or address=…")
        if name == "role":
            roles = value.split(",")
            for role in roles:
                if role not in ROLES:
                    raise ValueError(f"'{role}' is not a role; choose one of {', '.join(ROLES)}")
        elif name == "labels":
            labels = value.split(",")
            for label in labels:
                if not LABEL.match(label):
                    raise ValueError(f"'{label}' is not a label; use letters, digits, '.', '_' and '-'")
        elif name == "address":
            address = parse_address(value)
        else:
            raise ValueError(f"'{name}' is unknown; there are role, labels and address")
    return roles or ["worker"], labels, address


def parse_line(line):
    """The hosts of one line."""
    login, *words = line.split()
    roles, labels, address = parse_options(words)
    match = LOGIN.match(login)
    if not match:
        raise ValueError(f"'{login}' is not [threads/][user@]host[:port]")
    threads, user = int(match["threads"] or 0), match["user"] or ""
    if match["threads"] and not 1 <= threads <= 4096:
        raise ValueError(f"{threads} threads; choose 1 to 4096")
    if match["rest"] == ":":
        if user:
            raise ValueError("':' is this machine and takes no user")
        return [Host("", "", 22, threads, roles, labels, address)]
    names, port = split_port(match["rest"])
    port = int(port) if port else 22
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port")
    for name in names:
        if not NAME.match(name) and ":" not in name:
            raise ValueError(f"'{name}' is not a host name")
    if address and len(names) > 1:
        raise ValueError("an address belongs to one host, and this line names several")
    return [Host(name, user, port, threads, list(roles), list(labels), address) for name in names]


def merge(known, host):
    """Lines of the same host add up."""
    if host.threads and known.threads and host.threads != known.threads:
        raise ValueError(f"{host.text} has {known.threads} threads in an earlier line")
    if host.user != known.user:
        raise ValueError(f"{host.text} has the user '{known.user}' in an earlier line")
    if host.address and known.address and host.address != known.address:
        raise ValueError(f"{host.text} has the address {known.address} in an earlier line")
    known.threads = known.threads or host.threads
    known.address = known.address or host.address
    known.roles += [role for role in host.roles if role not in known.roles]
    known.labels += [label for label in host.labels if label not in known.labels]


def parse(text, file="hosts"):
    """The hosts in the order of the file."""
    hosts = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        try:
            for host in parse_line(line):
                if host.text in hosts:
                    merge(hosts[host.text], host)
                else:
                    hosts[host.text] = host
        except ValueError as error:
            raise BadHosts(f"{file}:{number}: {error}") from None
    check(hosts.values(), file)
    return list(hosts.values())


def check_keys(hosts, file):
    """Two hosts with the same name for files would share a directory and a key."""
    known = {}
    for host in hosts:
        other = known.setdefault(host.key, host)
        if other is not host:
            raise BadHosts(f"{file}: '{other.text}' and '{host.text}' would both be {host.key} in names of "
                           "files; give one of them another name, in /etc/hosts or ~/.ssh/config")


def check(hosts, file):
    check_keys(hosts, file)
    if not hosts:
        raise BadHosts(f"{file} contains no hosts")
    if not any("broker" in host.roles for host in hosts):
        raise BadHosts(f"{file}: no host has role=broker; give one host this role")
    for host in hosts:
        if host.local and "broker" in host.roles and not host.address and len(hosts) > 1:
            raise BadHosts(f"{file}: ':' is the broker of other hosts, so give the address at which they reach it: "
                           ": role=broker address=ADDRESS")
