"""A PostgreSQL cluster of its own, which can be stopped and started again, for tests."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest


class Cluster:
    """An empty cluster in `directory`; `url` is what `store` takes."""

    def __init__(self, directory: Path, *, initdb: str, pg_ctl: str, port: int) -> None:
        self._directory, self.url = directory, f"postgresql+psycopg://agent@127.0.0.1:{port}/postgres"
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
            setpriv = shutil.which("setpriv") or pytest.fail("setpriv is needed to start PostgreSQL as root")
            self._as_user = [setpriv, "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._control = [pg_ctl, "-D", f"{directory}/data", "-w", "-l", f"{directory}/log"]
        self._options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"
        self._run(initdb, "-D", f"{directory}/data", "-A", "trust", "-U", "agent", "--no-sync", "-E", "UTF8")

    def start(self) -> "Cluster":
        self._run(*self._control, "-o", self._options, "start")
        return self

    def stop(self) -> None:
        """At once: sessions are cut, what was committed stays."""
        self._run(*self._control, "-m", "immediate", "stop")

    def _run(self, *command: str) -> None:
        subprocess.run([*self._as_user, *command], check=True, stdout=subprocess.DEVNULL, cwd=self._directory)
