"""Hosts for tests: network namespaces on a bridge, each with its own address and its own sshd.

The test runs itself once more in private network, mount and process namespaces, in which it is the
first process: whatever happens to it, everything that it made or started is gone with it, and nothing
of it was ever to be seen outside. Needs root, iproute2 and openssh-server; exits 77 with the reason
where these are not to be had.
"""
import os
import signal
import shutil
import subprocess
import sys
import time
from pathlib import Path

SKIPPED = 77
INSIDE = "MILLRACE_TEST_NETWORK"
SUBNET = "10.203.0"  # of a network that nobody else can see
SSHD = "/usr/sbin/sshd"


def lacking():
    """Why there can be no hosts here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("unshare", "ip", "ssh", "ssh-keygen", SSHD):
        if not shutil.which(program):
            return f"{program} is missing; scripts/setup.sh --hosts installs it"
    trial = "mount -t tmpfs none /run && ip link add trial0 type veth peer name trial1 && ip link add br0 type bridge"
    done = subprocess.run(unshared("sh", "-c", trial), capture_output=True, text=True, check=False)
    if done.returncode:
        return f"network namespaces are not allowed here: {done.stderr.strip()}"
    return ""


def unshared(*command):
    return ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *command]


def enter():
    """Returns in the private namespaces, or ends the program."""
    if os.environ.get(INSIDE):
        call("mount", "-t", "tmpfs", "none", "/run")
        return
    reason = lacking()
    if reason:
        print(f"skipped: {reason}", flush=True)
        sys.exit(SKIPPED)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", unshared(sys.executable, *sys.argv))


def call(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


class Host:
    def __init__(self, network, name, number):
        self.network, self.name = network, name
        self.address = f"{SUBNET}.{number}"
        self.link = f"v-{name}"  # the bridge's end of its cable
        call("ip", "netns", "add", name)
        call("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", name)
        call("ip", "link", "set", self.link, "master", "bridge", "up")
        self.call("ip", "link", "set", "lo", "up")
        self.call("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.call("ip", "link", "set", "eth0", "up")
        self.sshd = None

    def command(self, *words):
        return ["ip", "netns", "exec", self.name, *(str(word) for word in words)]

    def call(self, *words):
        return call(*self.command(*words))

    def start_sshd(self):
        directory = self.network.directory / f"sshd-{self.name}"
        if not directory.exists():
            directory.mkdir(mode=0o700)
            call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "key")
            key = (directory / "key.pub").read_text().split()
            with open(self.network.directory / "known_hosts", "a", encoding="ascii") as known:
                known.write(f"{self.address} {key[0]} {key[1]}\n")
            (directory / "config").write_text(
                f"ListenAddress {self.address}:22\nHostKey {directory}/key\nPidFile none\nUsePAM no\n"
                f"AuthorizedKeysFile {self.network.directory}/client.pub\nStrictModes no\n"
                "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
                "PrintMotd no\nSubsystem sftp internal-sftp\n")
        self.sshd = subprocess.Popen(self.command(SSHD, "-D", "-f", directory / "config", "-E", directory / "log"),
                                     stdin=subprocess.DEVNULL, start_new_session=True)

    def unplug(self):
        """The cable is out: what is sent is gone, and nobody is told."""
        call("ip", "link", "set", self.link, "down")

    def plug(self):
        call("ip", "link", "set", self.link, "up")

    def pids(self):
        return [int(pid) for pid in call("ip", "netns", "pids", self.name).split()]

    def kill(self):
        """The power is out: no packet leaves, and every process is gone."""
        self.unplug()
        deadline = time.monotonic() + 10
        while True:
            pids = [pid for pid in self.pids() if not is_zombie(pid)]
            if not pids:
                break
            assert time.monotonic() < deadline, f"{self.name} still has processes: {pids}"
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        self.sshd.wait()

    def boot(self):
        self.plug()
        self.start_sshd()


def is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Network:
    """A bridge, and on it the hosts of the given names. `desk` is where the operator sits: cluster.sh
    and producers run there; it has no sshd."""

    def __init__(self, directory, names):
        self.directory = directory
        call("ip", "link", "add", "bridge", "type", "bridge")
        call("ip", "link", "set", "bridge", "up")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "client")
        (directory / "ssh_config").write_text(
            f"Host *\n  User root\n  IdentityFile {directory}/client\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {directory}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n")
        self.ssh = f"ssh -F {directory}/ssh_config -o ConnectTimeout=2"
        self.hosts = {}
        try:
            self.make(names)
        except BaseException:
            self.close()
            raise

    def make(self, names):
        for number, name in enumerate(["desk", *names], 1):
            host = self.hosts[name] = Host(self, name, number)
            setattr(self, name, host)
            if name != "desk":
                host.start_sshd()
        for name in names:
            self.await_sshd(self.hosts[name])

    def await_sshd(self, host, seconds=10):
        probe = f"import socket; socket.create_connection(('{host.address}', 22), 1).close()"
        deadline = time.monotonic() + seconds
        while subprocess.run(self.hosts["desk"].command(sys.executable, "-c", probe), capture_output=True,
                             check=False).returncode:
            assert time.monotonic() < deadline, f"the sshd of {host.name} does not answer"
            time.sleep(0.05)

    def close(self):
        for name, host in self.hosts.items():
            for pid in host.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if host.sshd:
                host.sshd.wait()
            call("ip", "link", "delete", host.link)  # at once; a namespace goes when its last socket has gone
            call("ip", "netns", "delete", name)
        call("ip", "link", "delete", "bridge")
        while True:  # orphans come to us, the first process
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break
