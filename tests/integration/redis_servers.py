"""Real Redis servers for the tests: one alone, a master with replicas behind three Sentinels, a Cluster of three."""
import os
import signal
import socket
import subprocess
import tempfile

from harness import free_port, wait_for

QUIET = ["--save", "", "--appendonly", "no", "--protected-mode", "no"]


class Redis:
    """One server, started again on the same port as often as one likes."""

    def __init__(self, *words, port=None, program="redis-server"):
        self.port = port or free_port()
        self.directory = tempfile.mkdtemp(prefix="sluice-redis-")
        self.words = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory, *QUIET, *words]
        self.password = None
        self.process = None
        self.start()

    def start(self):
        self.log = open(os.path.join(self.directory, "log"), "ab")
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for(self.answers, 20, "redis-server answers")

    def answers(self):
        said = self.command("PING")
        return said == "PONG" or "NOAUTH" in said or "NOPERM" in said

    def command(self, *words, port=None):
        auth = ["-a", self.password, "--no-auth-warning"] if self.password else []
        done = subprocess.run(
            ["redis-cli", "-h", "127.0.0.1", "-p", str(port or self.port), *auth, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=20,
        )
        return (done.stdout + done.stderr).strip()

    def raw(self, *words):
        """The value as it is: bytes, or None."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as s, s.makefile("rb") as f:
            s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
            head = f.readline().rstrip()
            assert head[:1] in b"+$", head
            if head[:1] == b"+":
                return head[1:]
            return None if head == b"$-1" else f.read(int(head[1:]) + 2)[:-2]

    def keys(self, pattern="*"):
        return self.command("--scan", "--pattern", pattern).split()

    def stop(self, number=signal.SIGKILL):
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(20)
            self.log.close()
        self.process = None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Group:
    def __init__(self):
        self.servers = []

    def add(self, *words, **more):
        self.servers.append(Redis(*words, **more))
        return self.servers[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.servers:
            s.stop()


class Sentinels(Group):
    """A master and a replica, watched by three Sentinels that agree within about a second."""

    def __init__(self, name="mine"):
        super().__init__()
        self.name = name
        try:
            self.master = self.add()
            self.replica = self.add("--replicaof", "127.0.0.1", str(self.master.port))
            wait_for(lambda: "slave0" in self.master.command("INFO", "replication"), 20, "the replica is there")
            self.sentinels = [self.sentinel() for _ in range(3)]
            wait_for(self.agree, 30, "the Sentinels know one another and the replica")
        except BaseException:
            self.__exit__()
            raise

    def sentinel(self):
        port = free_port()
        path = os.path.join(tempfile.mkdtemp(prefix="sluice-sentinel-"), "sentinel.conf")
        with open(path, "w") as f:
            f.write(
                f"port {port}\nbind 127.0.0.1\ndir {os.path.dirname(path)}\nprotected-mode no\n"
                f"sentinel monitor {self.name} 127.0.0.1 {self.master.port} 2\n"
                f"sentinel down-after-milliseconds {self.name} 500\n"
                f"sentinel failover-timeout {self.name} 3000\n"
            )
        s = Redis.__new__(Redis)
        s.port, s.directory, s.password = port, os.path.dirname(path), None
        s.words = ["redis-sentinel", path]
        s.start()
        self.servers.append(s)
        return s

    def agree(self):
        rows = [s.command("SENTINEL", "master", self.name).split("\n") for s in self.sentinels]
        values = [dict(zip(r[::2], r[1::2])) for r in rows]
        return all(v.get("num-other-sentinels") == "2" and v.get("num-slaves") == "1" for v in values)

    def master_port(self):
        return int(self.sentinels[-1].command("SENTINEL", "get-master-addr-by-name", self.name).split("\n")[1])


class Cluster(Group):
    """Three masters, a third of the slots each."""

    def __init__(self):
        super().__init__()
        try:
            for _ in range(3):
                self.add("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
            nodes = [f"127.0.0.1:{s.port}" for s in self.servers]
            made = subprocess.run(
                ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "0", "--cluster-yes"],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert made.returncode == 0, made.stdout + made.stderr
            wait_for(self.agree, 30, "the cluster is ok")
        except BaseException:
            self.__exit__()
            raise

    def agree(self):
        return all("cluster_state:ok" in s.command("CLUSTER", "INFO") for s in self.servers)

    def move(self, slot, source, target):
        """A slot with all its keys."""
        ids = {s: s.command("CLUSTER", "MYID") for s in (source, target)}
        assert target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source]) == "OK"
        assert source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target]) == "OK"
        for key in source.command("CLUSTER", "GETKEYSINSLOT", slot, 1000).split():
            assert source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000) == "OK"
        for s in self.servers:
            assert s.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target]) == "OK"
