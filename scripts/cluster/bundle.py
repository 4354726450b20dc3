"""What is copied to the hosts: the programs, stripped, and for each host its keys and configuration.
Both are known by a checksum, so that only what has changed is sent.

Keys are made here, once, in DIR/keys: one pair for the brokers, one for each host, one for the user of
the cluster (`client`), and the brokers' list of permitted keys (`allow`). A host gets its own secret key
and the brokers' public one; only a broker's host gets the brokers' secret key and the list.
"""
import hashlib
import io
import os
import secrets
import shutil
import subprocess
import tarfile

PROGRAMS = ("millrace-broker", "millrace-worker", "millrace-producer")


class Broken(Exception):
    """(exit code, message)"""


def archive(files):
    """A tar of name -> (bytes, mode), the same for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def checksum(files):
    digest = hashlib.sha256()
    for name, (content, mode) in sorted(files.items()):
        digest.update(f"{name} {mode:o} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


class Programs:
    """The three programs of a directory; what is sent is stripped of debug information, and kept."""

    def __init__(self, directory, cache):
        self.directory, self.cache = directory, cache
        digest = hashlib.sha256()
        for name in PROGRAMS:
            try:
                digest.update((directory / name).read_bytes())
            except OSError as error:
                raise Broken(69, f"can't read {directory / name}: {error.strerror}; "
                                 "build it: scripts/build.sh") from None
        self.sum = digest.hexdigest()[:16]

    def archive(self, dry_run=False):
        """The path of a tar file, made when a host first needs it."""
        kept = self.cache / f"programs-{self.sum}.tar"
        if not kept.exists() and not dry_run:
            self.make(kept)
        return kept

    def make(self, kept):
        for old in self.cache.glob("programs-*"):
            old.unlink()
        files = {name: (self.stripped(self.directory / name), 0o755) for name in PROGRAMS}
        partial = kept.with_suffix(".partial")
        partial.write_bytes(archive(files))
        partial.rename(kept)

    def stripped(self, program):
        if not shutil.which("strip"):
            return program.read_bytes()
        target = self.cache / f"programs-{program.name}.stripped"
        done = subprocess.run(["strip", "-o", target, program], capture_output=True, check=False)
        try:
            return (target if done.returncode == 0 else program).read_bytes()
        finally:
            target.unlink(missing_ok=True)


class Keys:
    def __init__(self, directory, broker_program):
        self.directory, self.program = directory, broker_program

    def keygen(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Broken(78, f"{self.program.name} {' '.join(map(str, arguments))}: {done.stderr.strip()}")

    def exist(self):
        return (self.directory / "broker").exists()

    def make(self, hosts):
        """Those that are missing. A key that was taken out of the list stays out."""
        self.open_directory()
        if not self.exist():
            self.keygen("keygen", self.directory / "broker")
        for name in ["client", *[self.of(host) for host in hosts]]:
            path = self.directory / name
            if path.exists():
                continue
            self.keygen("keygen", path)
            try:
                self.keygen("keys", "add", "--allow", self.directory / "allow", "--name", name, f"{path}.pub")
            except Broken:
                path.unlink()
                (self.directory / f"{name}.pub").unlink()
                raise

    def open_directory(self):
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.directory, 0o700)

    def make_token(self):
        """The token of requests to the gateways; also where there are no keys."""
        self.open_directory()
        token = self.directory / "gateway-token"
        if not token.exists():
            with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(24) + "\n")

    def of(self, host):
        return f"host-{host.key}"

    def files(self, host):
        """What a host gets: name -> (bytes, mode)."""
        wanted = {"host.key": self.of(host), "broker.pub": "broker.pub"}
        if "broker" in host.roles:
            wanted.update({"broker.key": "broker", "allow": "allow"})
        return {name: self.file(source) for name, source in wanted.items()}

    def file(self, name):
        return (self.directory / name).read_bytes(), 0o600
