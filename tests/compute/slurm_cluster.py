"""A real SLURM of one node in a folder: munged, slurmctld, slurmd on free ports.

Installs nothing. ``python slurm_cluster.py <folder> [--accounting]`` keeps one
for trying by hand.

The node pretends 8 cores and two GPUs (character devices like /dev/null). Partitions: `gpu`
(default), `low`, which jobs of `high` preempt on the same node, and `short` (1 minute at most).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
_NUMBERS = itertools.count()
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory")


def why_not() -> str:
    """Why no cluster can be started here; empty where one can."""
    missing = [program for program in PROGRAMS if _find(program) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "the daemons of a SLURM in a folder need root"
    return ""


def why_no_accounting() -> str:
    """Why a cluster cannot have accounting here; empty where it can."""
    missing = [program for program in ACCOUNTING_PROGRAMS if _find(program) is None]
    return f"no {', '.join(missing)}: apt-get install slurmdbd mariadb-server" if missing else ""


def has_memory_cgroup() -> bool:
    """Whether jobs' memory can be confined, which a true OUT_OF_MEMORY needs."""
    return _CGROUP_MEMORY.is_dir() and os.access(_CGROUP_MEMORY, os.W_OK)


class Cluster:
    """A running cluster.

    Attributes
    ----------
    config
        Its ``slurm.conf``; clients find it through the variable SLURM_CONF.
    node
        Its one node.
    """

    def __init__(self, folder: Path, *, has_accounting: bool = False) -> None:
        self.folder = folder
        self._accounting = _Accounting(folder, self) if has_accounting else None
        self.config = folder / "slurm.conf"
        # also names the control group of its jobs, which clusters on one machine share
        self.node = f"node{os.getpid()}{next(_NUMBERS)}"
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {"SLURM_CONF": str(self.config)}

    def client(self, *command: str) -> str:
        """Run a client command; its output."""
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True,
            check=True, cwd=self.folder,
        ).stdout  # fmt: skip

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs."""
        self._write_files()
        self._start_munge()
        if self._accounting:
            self._accounting.start()
        self.launch("slurmctld", "-D", "-i")
        self.launch("slurmd", "-D", "-N", self.node)
        self.wait_idle()

    def wait_idle(self, timeout_s: float = 40) -> None:
        """Wait until the node is idle."""
        deadline = time.monotonic() + timeout_s
        state = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.CalledProcessError):
                state = self.client("sinfo", "-h", "-p", "gpu", "-o", "%T").strip()
            if state == "idle":
                return
            if any(process.poll() is not None for process in self._processes):
                break
            time.sleep(0.1)
        logs = "\n".join(file.read_text()[-2000:] for file in self.folder.glob("*.log"))
        raise RuntimeError(f"the node is {state!r}, not idle; the daemons say:\n{logs}")

    def clear(self) -> None:
        """End every job and make the node idle again."""
        for state in ("PENDING", "RUNNING"):
            self.client("scancel", f"--state={state}")
        if (
            self.client("sinfo", "-h", "-p", "gpu", "-o", "%T")
            .strip()
            .startswith(("down", "drain"))
        ):
            self.client("scontrol", "update", f"nodename={self.node}", "state=resume")
        self.wait_idle()

    def jobs(self) -> list[str]:
        """Ids of the jobs and tasks that have not ended."""
        return self.client("squeue", "-h", "-r", "-o", "%i").split()

    def stop(self) -> None:
        """End every job and daemon."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.client("scancel", "--state=PENDING")
            self.client("scancel", "--signal=KILL", "--full", "--state=RUNNING")
            deadline = time.monotonic() + 10
            while self.jobs() and time.monotonic() < deadline:
                time.sleep(0.2)
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def restart_controller(self, *, forgets: bool = False, first_job_id: int = 0) -> None:
        """End slurmctld and start it again, as an upgrade does; without its state where it
        forgets, so that it knows no job and the node kills those that run. `first_job_id` is what
        the next job gets then, as after a reinstallation."""
        place = self._place_of("slurmctld")
        controller = self._processes.pop(place)
        controller.terminate()
        controller.wait(20)
        if first_job_id:
            # the last id is kept there, also where all else is to be forgotten
            shutil.rmtree(self.folder / "state")
            (self.folder / "state").mkdir()
            with self.config.open("a") as file:
                file.write(f"FirstJobId={first_job_id}\n")
        self.launch("slurmctld", "-D", *(["-c"] if forgets else []), position=place)

    @contextlib.contextmanager
    def silent_node(self) -> Iterator[None]:
        """The node says nothing for the length of a block."""
        node = self._processes[self._place_of("slurmd")]
        node.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            node.send_signal(signal.SIGCONT)

    def _place_of(self, daemon: str) -> int:
        return next(
            number
            for number, process in enumerate(self._processes)
            if str(process.args[0]).endswith(daemon)  # type: ignore[index]
        )

    def _write_files(self) -> None:
        ports = _free_ports(2)
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True)
        devices = [self._device(number) for number in range(2)]
        (self.folder / "gres.conf").write_text(
            "".join(
                f"NodeName={self.node} Name=gpu Type=fake File={device}\n" for device in devices
            )
        )
        confine = has_memory_cgroup()
        (self.folder / "cgroup.conf").write_text(
            "CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\nConstrainSwapSpace=yes\n"
            "AllowedSwapSpace=0\n"
        )
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        self.config.write_text(
            f"""
ClusterName=tiny
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
SlurmctldLogFile={self.folder}/slurmctld.log
SlurmdLogFile={self.folder}/slurmd.log
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
ProctrackType=proctrack/{"cgroup" if confine else "linuxproc"}
TaskPlugin=task/{"cgroup" if confine else "none"}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=2
UnkillableStepTimeout=20
MinJobAge={2 if self._accounting else 300}
MaxArraySize=5001
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
{self._accounting.settings if self._accounting else ""}
NodeName={self.node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 CPUs=8 \
RealMemory={int(memory * 0.9)} Gres=gpu:fake:2 State=UNKNOWN
PartitionName=gpu Nodes={self.node} Default=YES MaxTime=7-0 PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes={self.node} MaxTime=7-0 PriorityTier=1
PartitionName=high Nodes={self.node} MaxTime=7-0 PriorityTier=9 PreemptMode=OFF
PartitionName=short Nodes={self.node} MaxTime=1 PriorityTier=5 PreemptMode=OFF
""".lstrip()
        )

    def _device(self, number: int) -> Path:
        path = self.folder / f"gpu{number}"
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        return path

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.chmod(0o755)
        key = folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.launch(
            "munged", "--foreground", "--force", f"--socket={folder}/socket",
            f"--key-file={key}", f"--pid-file={folder}/pid", f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/seed",
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while not (folder / "socket").exists():
            if time.monotonic() > deadline:
                raise RuntimeError("munged made no socket")
            time.sleep(0.02)

    def launch(self, program: str, *arguments: str, position: int | None = None) -> None:
        """Start a daemon, to be ended with the cluster."""
        with (self.folder / f"{program}.out").open("ab") as output:
            process = subprocess.Popen(
                [str(_find(program)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )
        self._processes.insert(len(self._processes) if position is None else position, process)


class _Accounting:
    """slurmdbd and its database, in the cluster's folder."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._folder = folder
        self._cluster = cluster
        self._ports = _free_ports(2)

    @property
    def settings(self) -> str:
        """Lines of ``slurm.conf``."""
        return (
            "AccountingStorageType=accounting_storage/slurmdbd\n"
            f"AccountingStorageHost=127.0.0.1\nAccountingStoragePort={self._ports[1]}\n"
            f"AccountingStoragePass={self._folder}/munge/socket\n"
            "AccountingStorageTRES=gres/gpu\nAccountingStorageEnforce=associations,limits,qos\n"
        )

    def start(self) -> None:
        """Start the database, slurmdbd, and register the cluster."""
        database = self._folder / "database"
        program = Path(str(_find("mariadbd")))
        subprocess.run(
            [str(_find("mariadb-install-db")), "--no-defaults", "--user=root",
             f"--basedir={program.parent.parent}", f"--datadir={database}", "--skip-test-db"],
            check=True, capture_output=True,
        )  # fmt: skip
        self._cluster.launch(
            "mariadbd", "--no-defaults", "--user=root", f"--datadir={database}",
            f"--port={self._ports[0]}", "--bind-address=127.0.0.1", "--skip-grant-tables",
            f"--socket={database}/socket", "--skip-networking=0",
        )  # fmt: skip
        plugins = Path(str(_find("slurmdbd"))).parent.parent / "lib"
        config = self._folder / "slurmdbd.conf"
        config.write_text(
            f"""AuthType=auth/munge
AuthInfo=socket={self._folder}/munge/socket
DbdHost={socket.gethostname()}
DbdAddr=127.0.0.1
DbdPort={self._ports[1]}
SlurmUser=root
PidFile={self._folder}/slurmdbd.pid
LogFile={self._folder}/slurmdbd.log
PluginDir={":".join(str(path.parent) for path in plugins.glob("*/slurm-wlm/*mysql.so"))}:\
/usr/lib/x86_64-linux-gnu/slurm-wlm
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={self._ports[0]}
StorageUser=root
StorageLoc=slurm
""".replace("\\\n", "")
        )
        config.chmod(0o600)
        # slurmdbd would wait 5 s before it asks again
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._ports[0])) == 0:
                    break
            time.sleep(0.1)
        self._cluster.launch("slurmdbd", "-D")
        while True:
            try:
                self._cluster.client("sacctmgr", "-i", "add", "cluster", "tiny")
            except subprocess.CalledProcessError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"slurmdbd does not answer: {error.stderr}") from None
                time.sleep(0.3)
            else:
                break
        for added in (
            "qos one MaxSubmitJobsPerUser=1", "qos short MaxWall=00:01:00", "account lab",
            "user root account=lab qos=normal,one,short",
        ):  # fmt: skip
            self._cluster.client("sacctmgr", "-i", "add", *added.split())


@contextlib.contextmanager
def running_cluster(folder: Path, *, has_accounting: bool = False) -> Iterator[Cluster]:
    """A cluster for the length of a block."""
    cluster = Cluster(folder, has_accounting=has_accounting)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    # ended by `kill` it ends its daemons too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with running_cluster(
        Path(sys.argv[1]).resolve(), has_accounting="--accounting" in sys.argv
    ) as by_hand:
        print(f"export SLURM_CONF={by_hand.config}   # Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(1)
