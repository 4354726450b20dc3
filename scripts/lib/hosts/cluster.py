"""A cluster on the hosts of a hosts file: what each command of cluster.sh does with it. Every command
asks all hosts that it can reach, and remembers who failed: `failures` decides the exit code.
"""
import time

import plan
import sums
from bundle import Broken, Keys, Programs, archive, checksum
from plan import BUSY_SECONDS, STOP_SECONDS

READY_SECONDS = 60
REGISTER_SECONDS = 30
RESTART_SECONDS = BUSY_SECONDS + STOP_SECONDS + READY_SECONDS + REGISTER_SECONDS + 30


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

    # What went wrong, and what runs.

    def note(self, answer):
        text = answer.host.text
        for words in answer.notes:
            self.progress.note(f"{text}: {words}")
        for name, (state, pid) in answer.units.items():
            units = self.units.setdefault(text, {})
            if state == "stopped":
                units.pop(name, None)
                continue
            if state == "running" and name in units:
                continue  # started, or found stale, a moment ago
            if state == "stale":
                self.progress.note(f"{text}: {name} runs on with what it was started with; rolling-restart renews it")
            units[name] = (state, pid)
        if answer.errors and text not in self.failures:
            self.failures[text] = {"host": text, "reached": answer.reached, "error": "; ".join(answer.errors)}
            said = "" if answer.reached else "can't be reached: "
            self.progress.note(f"{text}: {said}{'; '.join(answer.errors)}")
        return answer

    def able(self, hosts):
        """Who has not failed yet."""
        return [host for host in hosts if host.text not in self.failures]

    def run(self, hosts, lines_of, what, deadline=120.0):
        def work(host):
            return self.remote.run(host, *lines_of(host), deadline=deadline)

        return [self.note(answer) for answer in self.remote.each(self.able(hosts), work, what)]

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
            raise Broken(65, f"no host of the hosts file has role=worker, so {self.settings.workers} workers have no "
                             "place")
        raise Broken(64, f"all hosts with role=worker are drained, so {self.settings.workers} workers have no place; "
                         "`up` takes the hosts back")

    def check_move(self):
        """What runs would neither follow to other ports nor take or lose its keys: refuse, before any change."""
        moves = self.before.moves_to(self.settings) if self.before else []
        running = self.running() if moves and not self.remote.dry_run else []
        if running:
            raise Broken(64, f"{running[0]} runs {' and '.join(moves)}; take the cluster down first: "
                             "scripts/cluster.sh -f HOSTS down")

    def prepare(self):
        """Before anything is started: the programs are here, and every host has keys."""
        self.programs = Programs(self.bin_directory, self.directory)
        self.keys = Keys(self.directory / "keys", self.bin_directory / "millrace-broker")
        if self.settings.insecure:
            self.progress.note("--insecure: whoever reaches the brokers' ports may submit and take jobs")
        elif not self.remote.dry_run:
            self.check_lost()
            self.keys.make(self.hosts)
        if plan.of_role(self.hosts, "gateway") and not self.remote.dry_run:
            self.keys.make_token()

    def remember(self):
        """Before anything is started or stopped: a command that is interrupted is remembered too."""
        if not self.remote.dry_run:
            self.settings.save(self.directory / "settings.json")

    def check_lost(self):
        """New keys would put out the workers of a broker that runs with others."""
        running = self.running() if not self.keys.exist() else []
        if running:
            raise Broken(78, f"{running[0]} runs with keys that are not in {self.directory}: bring that directory "
                             "back, or take the cluster down first (scripts/cluster.sh -f HOSTS down), which needs "
                             "no keys")

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

    def on_host(self, host, *lines, deadline=120.0):
        """Calls there, with the present programs and files: a host that has others is sent these."""
        etc = self.etc_files(host)
        etc_sum = checksum(etc)
        needs = ["needs", "bin", self.programs.sum, "etc", etc_sum]
        keys = ["same_keys", etc["broker.pub"][0].decode().strip() if "broker.pub" in etc else ""]
        if self.remote.dry_run:  # of a host that has nothing yet, once
            first = host.text not in self.copied
            wanted, answer = (["bin", "etc"] if first else []), None
        else:
            answer = self.remote.run(host, keys, needs, *lines, deadline=deadline)
            wanted = answer.needs
        if answer and (not wanted or not answer.good):
            return answer
        installs = []
        for kind in wanted:
            total = self.programs.sum if kind == "bin" else etc_sum
            content = self.programs.archive if kind == "bin" else lambda: archive(etc)
            sent = self.remote.send(host, f"{kind}.{total}", content)
            if not sent.good:
                return sent
            installs.append([f"install_{kind}", total])
        if host.text not in self.copied:
            self.copied.append(host.text)
        return self.remote.run(host, *installs, needs, *lines, deadline=deadline)

    def on_hosts(self, hosts, lines_of, what, deadline=120.0):
        def work(host):
            return self.on_host(host, *lines_of(host), deadline=deadline)

        return [self.note(answer) for answer in self.remote.each(self.able(hosts), work, what)]

    # Brokers.

    def brokers(self):
        return plan.of_role(self.hosts, "broker")

    def start_brokers(self):
        http = plan.http_of_broker(self.settings)
        self.on_hosts(self.brokers(), lambda host: [
            ["patience", STOP_SECONDS], ["ensure", "broker", *plan.broker_command(host, self.settings)],
            ["survive"], ["ready", http, READY_SECONDS]], "brokers", BUSY_SECONDS + STOP_SECONDS + READY_SECONDS + 30)

    def await_workers(self):
        """A call that waits until a broker knows the workers of all hosts that could be reached. Those that
        run on with what they were started with may not know of this broker yet."""
        names = [worker.name for worker in plan.workers_of(self.hosts, self.settings)
                 if worker.host.text not in self.failures
                 and self.units.get(worker.host.text, {}).get(worker.unit, ("",))[0] != "stale"]
        return [["await", plan.http_of_broker(self.settings), REGISTER_SECONDS, *names]] if names else []

    def await_placed(self):
        """Until every broker that can be asked knows its workers."""
        lines = self.await_workers()
        if lines:
            self.run(self.brokers(), lambda host: lines, "workers registering", REGISTER_SECONDS + 30)

    def ask_brokers(self):
        """host's text -> status, of those that answer."""
        http = plan.http_of_broker(self.settings)
        answers = self.run(self.brokers(), lambda host: [["broker", http], ["list"]], "asking the brokers")
        return {answer.host.text: answer.status for answer in answers if answer.status}

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
                surplus.append(["keep", "gateway", 0, STOP_SECONDS])
            ready = self.await_gateway(host) if "gateway" in wanted else []
            started = [["ensure", name, *command] for name, command in wanted.items()]
            return [["patience", STOP_SECONDS], *started, *surplus, ["survive"], ["list"], *ready]

        self.on_hosts(self.hosts, lines, "workers and gateways", BUSY_SECONDS + 2 * STOP_SECONDS + 60)
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
                 BUSY_SECONDS + STOP_SECONDS + 30)

    def rolling_restart(self):
        """One worker after the other, each back before the next goes; then gateways, then brokers. A broker
        is back when its workers are: the jobs of the next would have nobody else to go to."""
        self.prepare()
        self.on_hosts(self.hosts, lambda host: [], "copying what has changed")
        pairs = self.restarts()
        self.progress.begin("restarting", len(pairs), "program")
        for host, unit, command in pairs:
            if host.text not in self.failures and not self.restart(host, unit, command):
                self.progress.note(f"{unit} of {host.text} does not come back, so the others are left as they are")
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
        lines = [["stop", STOP_SECONDS, unit], ["ensure", unit, *command], ["survive"]]
        if unit == "gateway":
            lines += self.await_gateway(host)
        if unit == "broker":
            lines += [["ready", plan.http_of_broker(self.settings), READY_SECONDS], *self.await_workers()]
        answer = self.note(self.remote.run(host, *lines, deadline=RESTART_SECONDS))
        if not answer.good or not unit.startswith("worker"):
            return answer.good or not answer.reached
        wait = ["await", plan.http_of_broker(self.settings), REGISTER_SECONDS, plan.worker_name(host, unit)]
        answers = [self.note(self.remote.run(broker, wait, deadline=REGISTER_SECONDS + 30))
                   for broker in self.able(self.brokers())]
        return all(answer.good or not answer.reached for answer in answers)

    def down(self):
        """Workers and gateways first: what they have finished is confirmed before the brokers go."""
        self.run(self.hosts, lambda host: [["stop_kind", kind, STOP_SECONDS] for kind in ("worker", "gateway")],
                 "stopping workers and gateways", BUSY_SECONDS + 2 * STOP_SECONDS + 30)
        self.run(self.hosts, lambda host: [["stop_kind", "broker", STOP_SECONDS]], "stopping brokers",
                 BUSY_SECONDS + STOP_SECONDS + 30)

    def status(self, chosen):
        """Of the chosen hosts; what should run there by the plan of all, and does not, is missing."""
        wanted = {host.text: plan.all_units_of(host, self.hosts, self.settings) for host in chosen}
        self.hosts = chosen
        answers = self.run(self.hosts, lambda host: [["list"]], "asking the hosts")
        brokers = self.ask_brokers()
        for host in (answer.host for answer in answers if answer.good):
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
            report["cluster"] = sums.of([brokers.get(host.text) for host in self.brokers()])
        return report
