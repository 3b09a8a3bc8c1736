"""Runs a container as its pod says: with its user, a read-only root and no capabilities."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.deploy.installation import first_child, install
from tests.deploy.manifests import Manifest, pod_of
from tests.system import Process, clean_environ

REDIS_FOLDER = "/run/redis"
START = """\
set -e
mount --make-rprivate /
mount -t proc proc /proc
{install}
mount -t tmpfs tmpfs /run
mkdir {redis_folder}
mount --bind {redis} {redis_folder}
{volumes}
while read -r _ place _; do
    case $place in /proc*|/dev*|/sys*|/run/redis|{writable}) ;; *)
        mount -o remount,bind,ro "$place" || true ;;
    esac
done < /proc/self/mounts
python3 -c '{loopback_up}'
cd /
exec setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set=-all \\
    --inh-caps=-all /opt/holdline/bin/holdline {arguments}
"""
# SIOCSIFFLAGS with IFF_UP and IFF_RUNNING.
LOOPBACK_UP = (
    "import fcntl, socket, struct; "
    'fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 0x41))'
)


class Container(Process):
    """A running container. `pid` is its first process, as it is numbered outside."""

    pid = 0

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command as root in the mounts and the network of the container."""
        enter = ("nsenter", "-t", str(self.pid), "-m", "-n")
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, timeout=30, check=False
        )

    def gets(self, port: int, path: str) -> bool:
        """Returns True if a GET request succeeds, as a probe of the kubelet would."""
        code = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}{path}', timeout=8)"
        enter = ("nsenter", "-t", str(self.pid), "-n", sys.executable, "-c", code)
        return subprocess.run(enter, capture_output=True, timeout=30, check=False).returncode == 0


@contextlib.contextmanager
def running_container(
    deployment: Manifest, environ: Mapping[str, str], redis: Path, folder: Path
) -> Iterator[Container]:
    """Runs the only container of a pod. `redis` is the folder of a Redis socket."""
    pod = pod_of(deployment)
    [found] = pod["containers"]
    assert found["securityContext"]["readOnlyRootFilesystem"] is True
    empty = [volume["name"] for volume in pod["volumes"] if "emptyDir" in volume]
    writable = [each["mountPath"] for each in found["volumeMounts"] if each["name"] in empty]
    volumes = [f"mount -t tmpfs -o mode=1777,size=64m tmpfs {place}" for place in writable]
    script = folder / "start.sh"
    script.write_text(
        START.format(
            install=install(folder / "opt"),
            redis=redis,
            redis_folder=REDIS_FOLDER,
            volumes="\n".join(volumes),
            writable="|".join(writable),
            loopback_up=LOOPBACK_UP,
            user=pod["securityContext"]["runAsUser"],
            group=pod["securityContext"]["runAsGroup"],
            arguments=" ".join(found["args"]),
        )
    )
    log = folder / "log"
    command = ["unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--kill-child"]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [*command, "bash", str(script)],
            env=clean_environ() | dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    running = Container(found["name"], popen, log)
    try:
        while not running.pid and popen.poll() is None:
            running.pid = first_child(popen.pid) or 0
        yield running
    finally:
        popen.kill()
        popen.wait()
