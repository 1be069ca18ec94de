"""SLURM's commands through `ssh <host>`, against an sshd of the test's own on the loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi_resources.compute import slurm_submit
from saeborzoi_resources.compute.slurm import SlurmCompute
from tests.compute.compute_helpers import failure_of, in_run, metadata_of, tiny_settings, wait_for
from tests.compute.slurm_cluster import Cluster

pytestmark = pytest.mark.slurm
MakeJob = Callable[..., Job]


@pytest.fixture
def ssh_host(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A host that `ssh` reaches, with SLURM there and none here."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    ssh = shutil.which("ssh")
    if sshd is None or ssh is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    if os.geteuid() == 0:
        # root's sshd needs it, and where sshd is no service nobody has made it; left there, as
        # any other sshd would fail without it too
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "SLURM_CONF": str(slurm.config),
        "PYTHONPATH": os.environ["PYTHONPATH"],
        "PATH": os.environ["PATH"],
    }
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile {folder}/pid\nUsePAM no\n"
        "StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nSetEnv "
        + " ".join(f'{name}="{value}"' for name, value in variables.items())
        + "\n"
    )
    (folder / "config").write_text(
        f"Host login\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
        f" IdentityFile {folder}/key\n UserKnownHostsFile {folder}/known\n"
        " StrictHostKeyChecking no\n LogLevel ERROR\n"
        f" ControlMaster auto\n ControlPath {folder}/control\n ControlPersist 20\n"
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    wrapper = programs / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/config "$@"\n')
    wrapper.chmod(0o755)
    with (folder / "sshd.txt").open("w") as log:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    # here, no command finds the cluster
    monkeypatch.delenv("SLURM_CONF")

    def answers() -> bool:
        assert server.poll() is None, (folder / "sshd.txt").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, "sshd answers")
        yield "login"
    finally:
        subprocess.run([wrapper, "-O", "exit", "login"], capture_output=True)
        server.terminate()
        server.wait()


def test_an_array_over_ssh(
    instance: dg.DagsterInstance, ssh_host: str, make_job: MakeJob, tmp_path: Path
) -> None:
    settings = tiny_settings(
        backend="slurm", ssh_host=ssh_host, profile={"default": {"time": "10", "mem": "50M"}}
    )
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:count")
    figures = in_run(instance, compute, [make_job("a", 3), make_job("b", 4)])
    assert [f["counted"] for f in figures] == [3, 4]


def test_sbatch_refuses_over_ssh(
    instance: dg.DagsterInstance, ssh_host: str, make_job: MakeJob, tmp_path: Path
) -> None:
    settings = tiny_settings(
        backend="slurm", ssh_host=ssh_host, profile={"default": {"partition": "no such"}}
    )
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:touch")
    failure = failure_of(instance, compute, [make_job("a")])
    assert metadata_of(failure)["state"] == "REFUSED_BY_SBATCH"


def test_a_host_that_does_not_answer(
    instance: dg.DagsterInstance,
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("no ssh")
    monkeypatch.setattr(slurm_submit, "_SUBMIT_TRIES_S", 1.0)
    settings = tiny_settings(backend="slurm", ssh_host="nosuch.invalid")
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:touch")
    failure = failure_of(instance, compute, [make_job("a")])
    assert metadata_of(failure)["state"] == "NO_ANSWER"
    assert "nosuch.invalid" in str(failure.description)
