"""What each command of cluster.sh does. Every command asks all hosts that it can reach, and remembers those that
failed: `failures` decides the exit code.
"""
import time

import plan
import sums
from bundle import Broken, Keys, Programs, archive, checksum
from plan import LOCK_SECONDS, STOP_SECONDS

READY_SECONDS = 60
REGISTER_SECONDS = 30
RESTART_SECONDS = LOCK_SECONDS + STOP_SECONDS + READY_SECONDS + REGISTER_SECONDS + 30


class Cluster:
    def __init__(self, hosts, settings, directory, remote, progress, bin_directory=None, before=None):
        self.hosts, self.settings, self.directory = hosts, settings, directory
        self.before = before  # the settings that it was started with, if any
        self.remote, self.progress = remote, progress
        self.bin_directory = bin_directory
        self.programs = self.keys = None
        self.failures = {}  # host's text -> what is wrong there
        self.units = {}  # host's text -> {unit: (state, pid)}
        self.copied = []
        self.began = time.monotonic()

    # Failures, and what runs.

    def note(self, answer):
        text = answer.host.text
        for line in answer.notes:
            self.progress.note(f"{text}: {line}")
        for name, (state, pid) in answer.units.items():
            units = self.units.setdefault(text, {})
            if state == "stopped":
                units.pop(name, None)
                continue
            if state == "running" and name in units:
                continue  # "started" or "stale" says more
            if state == "stale":
                self.progress.note(f"{text}: {name} still runs its old version or settings; rolling-restart applies the "
                                   "new ones")
            units[name] = (state, pid)
        if answer.errors and text not in self.failures:
            self.failures[text] = {"host": text, "reached": answer.reached, "error": "; ".join(answer.errors)}
            unreached = "" if answer.reached else "can't be reached: "
            self.progress.note(f"{text}: {unreached}{'; '.join(answer.errors)}")
        return answer

    def able(self, hosts):
        """Those that have not failed yet."""
        return [host for host in hosts if host.text not in self.failures]

    def run(self, hosts, calls_of, what, deadline=120.0):
        requests = [(host, calls_of(host)) for host in self.able(hosts)]
        return [self.note(answer) for answer in self.remote.run(requests, what, deadline)]

    def running(self):
        """"UNIT of HOST" of all that runs now."""
        self.run(self.hosts, lambda host: [["list"]], "asking the hosts")
        return [f"{name} of {text}" for text, units in self.units.items() for name, (state, _) in units.items()
                if state not in plan.GONE]

    # Programs, keys and configuration.

    def check_room(self):
        """Workers that nobody may run would be counted as running."""
        able = plan.of_role(self.hosts, "worker")
        if self.settings.workers <= 0 or plan.placed(self.hosts, self.settings):
            return
        if not able:
            raise Broken(65, f"no host in the hosts file has role=worker, so {self.settings.workers} workers can't run "
                             "anywhere")
        raise Broken(64, f"all hosts with role=worker are drained, so {self.settings.workers} workers can't run "
                         "anywhere; `up` uses the hosts again")

    def check_move(self):
        """What runs would neither follow to other ports nor take or lose its keys: refuse, before any change."""
        moves = self.before.moves_to(self.settings) if self.before else []
        running = self.running() if moves and not self.remote.dry_run else []
        if running:
            raise Broken(64, f"{running[0]} runs {' and '.join(moves)}; stop the cluster first (`down`)")

    def prepare(self):
        """Before anything is started: the programs are here, and every host has keys."""
        self.programs = Programs(self.bin_directory, self.directory)
        self.keys = Keys(self.directory / "keys", self.bin_directory / "millrace-broker")
        if self.settings.insecure and not all(plan.is_loopback(plan.listen_address(host)) for host in self.brokers()):
            self.progress.note("--insecure: anyone who can reach the brokers' ports can submit and take jobs")
        elif not self.settings.insecure and not self.remote.dry_run:
            self.check_lost()
            self.keys.make(self.hosts)
        if plan.of_role(self.hosts, "gateway") and not self.remote.dry_run:
            self.keys.make_token()

    def remember(self):
        """Before anything is started or stopped: a command that is interrupted is remembered too."""
        if not self.remote.dry_run:
            self.settings.save(self.directory / "settings.json")

    def check_lost(self):
        """New keys would disconnect the workers of a broker that runs with others."""
        running = self.running() if not self.keys.exist() else []
        if running:
            raise Broken(78, f"{running[0]} runs with keys that are not in {self.directory}: restore that directory, "
                             "or stop the cluster first (`down`), which needs no keys")

    def etc_files(self, host):
        files = {}
        if self.remote.dry_run and not self.keys.directory.exists():
            return files
        if not self.settings.insecure:
            files = self.keys.files(host)
        if "gateway" in host.roles:
            files["gateway-token"] = self.keys.file("gateway-token")
        for role, source in self.settings.config.items():
            if role in host.roles:
                try:
                    files[f"{role}.toml"] = (open(source, "rb").read(), 0o600)
                except OSError as error:
                    raise Broken(74, f"can't read {source}: {error.strerror}") from None
        return files

    def on_hosts(self, hosts, calls_of, what, deadline=120.0):
        """Calls there, with the present programs and files: hosts that have others are sent these first."""
        hosts = self.able(hosts)
        etc = {host.text: self.etc_files(host) for host in hosts}
        sums = {host.text: {"bin": self.programs.sum, "etc": checksum(etc[host.text])} for host in hosts}

        def calls(host, *before):
            needs = [word for kind, sum_ in sums[host.text].items() for word in (kind, sum_)]
            return [*before, ["needs", *needs], *calls_of(host)]

        def public_key(host):
            return etc[host.text]["broker.pub"][0].decode().strip() if "broker.pub" in etc[host.text] else ""

        if self.remote.dry_run:  # as for hosts that have nothing yet, once
            needs = {host.text: ["bin", "etc"] for host in hosts if host.text not in self.copied}
        else:
            answers = self.remote.run([(host, calls(host, ["same_keys", public_key(host)])) for host in hosts], what,
                                      deadline)
            needs = {answer.host.text: answer.needs for answer in answers if answer.good and answer.needs}
            for answer in answers:
                if answer.host.text not in needs:
                    self.note(answer)
        lacking = [host for host in hosts if host.text in needs]
        archives = [(host, f"{kind}.{sums[host.text][kind]}",
                     archive(etc[host.text]) if kind == "etc" else self.programs.archive(self.remote.dry_run))
                    for host in lacking for kind in needs[host.text]]
        for answer in self.remote.send(archives, "copying") if archives else []:
            self.note(answer)
        self.copied += [host.text for host in self.able(lacking)]

        def install(host):
            return calls(host, *([f"install_{kind}", sums[host.text][kind]] for kind in needs[host.text]))

        if lacking or self.remote.dry_run:
            rest = hosts if self.remote.dry_run else self.able(lacking)
            self.run(rest, lambda host: install(host) if host in lacking else calls(host), what, deadline)

    # Brokers.

    def brokers(self):
        return plan.of_role(self.hosts, "broker")

    def start_brokers(self):
        http = plan.http_of_broker(self.settings)
        self.on_hosts(self.brokers(), lambda host: [
            ["stop_deadline", STOP_SECONDS], ["ensure", "broker", *plan.broker_command(host, self.settings)],
            ["survive"], ["ready", http, READY_SECONDS]], "brokers", LOCK_SECONDS + STOP_SECONDS + READY_SECONDS + 30)

    def await_workers(self):
        """A call that waits until the workers of all hosts that could be reached are registered with a broker. Those that
        still run their old settings may not know of this broker yet."""
        names = [worker.name for worker in plan.workers_of(self.hosts, self.settings)
                 if worker.host.text not in self.failures
                 and self.units.get(worker.host.text, {}).get(worker.unit, ("",))[0] != "stale"]
        return [["await_workers", plan.http_of_broker(self.settings), REGISTER_SECONDS, *names]] if names else []

    def await_placed(self):
        """Until the workers are registered with every broker that can be asked."""
        lines = self.await_workers()
        if lines:
            self.run(self.brokers(), lambda host: lines, "workers registering", REGISTER_SECONDS + 30)

    # Commands.

    def up(self):
        self.check_room()
        self.check_move()
        self.prepare()
        self.remember()
        self.start_brokers()
        self.place_workers()

    def place_workers(self):
        """Starts what should run and does not, and drains what should not."""
        counts = plan.spread(self.hosts, self.settings)

        def lines(host):
            wanted = plan.units_of(host, self.hosts, self.settings)
            surplus = [["keep", "worker", counts[host.text], STOP_SECONDS]]
            if "gateway" not in wanted:
                surplus.append(["stop_kind", "gateway", STOP_SECONDS])
            ready = self.await_gateway(host) if "gateway" in wanted else []
            started = [["ensure", name, *command] for name, command in wanted.items()]
            return [["stop_deadline", STOP_SECONDS], *started, *surplus, ["survive"], ["list"], *ready]

        self.on_hosts(self.hosts, lines, "workers and gateways", LOCK_SECONDS + 2 * STOP_SECONDS + 60)
        self.await_placed()

    def await_gateway(self, host):
        return [["ready_gateway", plan.http_of_gateway(host, self.settings), REGISTER_SECONDS]]

    def scale(self, workers):
        self.settings.workers = workers
        self.check_room()
        self.prepare()
        self.remember()
        self.place_workers()

    def drain(self, hosts):
        """Their workers finish what they run and end; they stay away until `up`."""
        self.settings.drained = sorted({*self.settings.drained, *(host.text for host in hosts)})
        self.remember()
        self.run(hosts, lambda host: [["keep", "worker", 0, STOP_SECONDS], ["list"]], "draining",
                 LOCK_SECONDS + STOP_SECONDS + 30)

    def rolling_restart(self):
        """One worker after the other, each back before the next goes; then gateways, then brokers. A broker
        is back when its workers are: the jobs of the next would have nobody else to go to."""
        self.prepare()
        self.on_hosts(self.hosts, lambda host: [], "copying what has changed")
        pairs = self.restarts()
        self.progress.begin("restarting", len(pairs), "program")
        for host, unit, command in pairs:
            if host.text not in self.failures and not self.restart(host, unit, command):
                self.progress.note(f"{unit} of {host.text} did not restart; the others were not restarted")
                return
            self.progress.step(f"restarted {host.text} {unit}")
        self.progress.end()
        self.await_placed()

    def restarts(self):
        workers, gateways, brokers = [], [], []
        for host in self.hosts:
            for unit, command in plan.units_of(host, self.hosts, self.settings).items():
                (gateways if unit == "gateway" else workers).append((host, unit, command))
            if "broker" in host.roles:
                brokers.append((host, "broker", plan.broker_command(host, self.settings)))
        return workers + gateways + brokers

    def restart(self, host, unit, command):
        """False when it was stopped and does not run as before: then nothing else must be stopped."""
        calls = [["stop", STOP_SECONDS, unit], ["ensure", unit, *command], ["survive"]]
        if unit == "gateway":
            calls += self.await_gateway(host)
        if unit == "broker":
            calls += [["ready", plan.http_of_broker(self.settings), READY_SECONDS], *self.await_workers()]
        [answer] = map(self.note, self.remote.run([(host, calls)], deadline=RESTART_SECONDS))
        if not answer.good or not unit.startswith("worker"):
            return answer.good or not answer.reached
        wait = ["await_workers", plan.http_of_broker(self.settings), REGISTER_SECONDS, plan.worker_name(host, unit)]
        requests = [(broker, [wait]) for broker in self.able(self.brokers())]
        answers = [self.note(answer) for answer in self.remote.run(requests, deadline=REGISTER_SECONDS + 30)]
        return all(answer.good or not answer.reached for answer in answers)

    def down(self):
        """Workers and gateways first: what they have finished is confirmed before the brokers go."""
        self.run(self.hosts, lambda host: [["stop_kind", kind, STOP_SECONDS] for kind in ("worker", "gateway")],
                 "stopping workers and gateways", LOCK_SECONDS + 2 * STOP_SECONDS + 30)
        self.run(self.hosts, lambda host: [["stop_kind", "broker", STOP_SECONDS]], "stopping brokers",
                 LOCK_SECONDS + STOP_SECONDS + 30)

    def status(self, chosen):
        """Of the chosen hosts; what should run there by the plan of all, and does not, is missing."""
        wanted = {host.text: plan.all_units_of(host, self.hosts, self.settings) for host in chosen}
        self.hosts = chosen
        ask = ["broker", plan.http_of_broker(self.settings)]
        answers = self.run(self.hosts, lambda host: [["list"], *([ask] if "broker" in host.roles else [])],
                           "asking the hosts")
        brokers = {answer.host.text: answer.status for answer in answers if answer.status}
        for host in (answer.host for answer in answers if answer.reached):
            units = self.units.setdefault(host.text, {})
            for name in wanted[host.text]:
                units.setdefault(name, ("missing", 0))
        return brokers

    def lacking(self):
        """(host's text, unit) of all that should run and does not."""
        return [(text, name) for text, units in self.units.items() for name, (state, _) in units.items()
                if state in plan.GONE]

    def logs(self, hosts, lines, kind):
        return self.run(hosts, lambda host: [["logs", lines, kind]], "fetching logs")

    def report(self, command, brokers=None):
        """The object of --json."""
        hosts = []
        for host in self.hosts:
            failure = self.failures.get(host.text)
            units = [{"name": name, "state": state, "pid": pid}
                     for name, (state, pid) in sorted(self.units.get(host.text, {}).items())]
            hosts.append({"host": host.text, "roles": host.roles, "labels": host.labels,
                          "reached": failure["reached"] if failure else True,
                          "error": failure["error"] if failure else None,
                          "copied": host.text in self.copied, "units": units})
        complete = command != "status" or not self.lacking()
        report = {"command": command, "ok": not self.failures and complete,
                  "seconds": round(time.monotonic() - self.began, 3), "dir": str(self.directory), "hosts": hosts,
                  "frontend": plan.brokers_of(self.hosts, self.settings.port_base),
                  "unreachable": [text for text, failure in self.failures.items() if not failure["reached"]]}
        if brokers is not None:
            report["brokers"] = brokers
            asked = self.brokers()
            if len(asked) > 1 and brokers:
                report["cluster"] = sums.of([brokers.get(host.text) for host in asked],
                                            self.bin_directory / "millrace-broker")
        return report
