# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""The story of the demonstration, step by step."""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.backend import Backend, BackendError
from tests.lab.boots import ReplayError
from tests.lab.nova import NovaCloud
from tests.lab.swtpm import SoftwareTpmError
from tests.lab.wait import WaitTimeout, wait_for
from tools.demonstration.by_hand import wait_for_quit
from tools.demonstration.console import command, say, step, table
from tools.demonstration.hosts import ComputeHost, OatError, Operator
from tools.demonstration.placements import Placements

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDER = REPOSITORY / ".demo"
BOOTS = {
    "compute-1": "machine-a",
    "compute-2": "machine-b",
    "compute-3": "machine-a-loader",
    "compute-4": "machine-a",
}
ENROLLED = ("compute-1", "compute-2", "compute-3")
GOOD = ("compute-1", "compute-2")

# Shorter than one would have it in a cloud, so that nobody waits for minutes.
ROUND_SECONDS = 1
CHALLENGE_SECONDS = 10
LIFETIME_SECONDS = 20
LEASE_SECONDS = 8

_SECONDS = 40.0


def tell(stack: contextlib.ExitStack) -> tuple[Placements, Backend, Operator]:
    """Everything from the first start to the last server.

    :param stack: takes what has to be stopped at the end.
    """
    hosts = _boot_hosts(stack)
    backend = _start_backend(stack, hosts)
    operator = Operator(backend)
    _enrol(hosts, backend, operator)
    placements = _start_nova(stack, backend)
    _first_servers(placements)
    _tamper(hosts["compute-1"], backend, operator, placements)
    _heal(hosts["compute-1"], backend, operator, placements)
    _lose_backend(backend, placements)
    return placements, backend, operator


def _boot_hosts(stack: contextlib.ExitStack) -> dict[str, ComputeHost]:
    step("Four compute hosts power on, each with a TPM of its own and a recorded boot")
    hosts = {}
    for name, boot in BOOTS.items():
        host = ComputeHost(name, FOLDER / name, FOLDER / "tpm-vendor")
        hosts[name] = host
        stack.callback(host.stop)
        host.manufacture()
        host.boot(boot)
        say(f"{name} booted {boot}")
    return hosts


def _start_backend(stack: contextlib.ExitStack, hosts: dict[str, ComputeHost]) -> Backend:
    step("The attestation backend starts, with TLS on loopback")
    vendor = FOLDER / "ek-ca"
    vendor.mkdir()
    for certificate in hosts["compute-1"].tpm.ca_certificates:
        shutil.copy(certificate, vendor)
    backend = Backend(
        FOLDER / "backend",
        options={
            ("attestation", "ek_ca_dir"): str(vendor),
            ("attestation", "allow_software_tpm"): True,
            ("attestation", "interval"): ROUND_SECONDS,
            ("attestation", "challenge_lifetime"): CHALLENGE_SECONDS,
            ("attestation", "verdict_lifetime"): LIFETIME_SECONDS,
            ("attestation", "verdict_lease"): LEASE_SECONDS,
        },
    )
    stack.callback(backend.stop)
    configuration = f"--config-file {_relative(backend.config_file)}"
    backend.start()
    command("oat-manage", configuration, "db sync")
    command("oat-manage", configuration, "init")
    command("oat-attestation-api", configuration, "&")
    say(f"it answers on {backend.endpoint}")
    return backend


def _enrol(hosts: dict[str, ComputeHost], backend: Backend, operator: Operator) -> None:
    step("Agents start on three hosts and enrol; compute-4 never does")
    for name in ENROLLED:
        hosts[name].start_agent(backend)
    wait_for(
        lambda: set(operator.hosts()) == set(ENROLLED), _SECONDS, "three hosts to wait for approval"
    )
    _oat(operator, "host", "list", "-c", "host", "-c", "state", "-c", "level", "-c", "reason")

    step("The operator approves them and says that the boots of compute-1 and -2 are good")
    waiting = operator.hosts()
    for name in ENROLLED:
        _oat(
            operator, "host", "approve", name,
            "--ek-fingerprint", waiting[name]["ek_fingerprint"],
            "-c", "host", "-c", "state", "-c", "software_tpm",
        )  # fmt: skip
    wait_for(
        lambda: all(host["appraised_at"] for host in operator.hosts().values()),
        _SECONDS,
        "the first evidence of all three",
    )
    from_hosts = [word for name in GOOD for word in ("--from-host", name)]
    _oat(
        operator, "reference", "create", "debian-12", *from_hosts,
        "-c", "name", "-c", "kind", "-c", "pcrs", "-c", "events",
    )  # fmt: skip
    say("PCRs that differ between the two (boot entries, disks, command line, initrd) are left out")
    _wait_for_levels(operator, {"compute-1": "trusted", "compute-2": "trusted"})
    _wait_for_levels(operator, {"compute-3": "untrusted"})
    _show_hosts(operator)


def _start_nova(stack: contextlib.ExitStack, backend: Backend) -> Placements:
    step("Nova starts: API, conductor, scheduler with TrustedFilter, placement, four computes")
    token = FOLDER / "scheduler.token"
    token.touch(0o600)
    token.write_text(backend.scheduler_token)
    cloud = NovaCloud(
        {
            "endpoint": backend.endpoint,
            "attestation_server_ca_file": str(backend.cacert),
            "token_file": str(token),
            "refresh_interval": 0.5,
        },
        hosts=tuple(BOOTS),
    )
    cloud.start()
    stack.callback(cloud.stop)
    return Placements(cloud)


def _first_servers(placements: Placements) -> None:
    step("Plain servers run everywhere, trusted ones only where the TPM proves a known boot")
    for host in BOOTS:
        placements.boot("plain", [host], host=host)
    placements.boot("trusted", GOOD)
    placements.boot("trusted", GOOD)
    for host in BOOTS:
        placements.boot("trusted", [host] if host in GOOD else [], host=host)


def _tamper(
    host: ComputeHost, backend: Backend, operator: Operator, placements: Placements
) -> None:
    step(f"Somebody changes the boot loader of {host.name} and reboots it")
    host.boot("machine-a-loader")
    host.start_agent(backend)
    _wait_for_levels(operator, {host.name: "untrusted"})
    _oat(operator, "host", "show", host.name, "-c", "host", "-c", "level", "-c", "findings")
    say("the agent on the host was told the same:")
    say("    " + host.agent_log.read_text().strip().splitlines()[-1])
    _wait_out_refresh()
    placements.boot("trusted", ["compute-2"])
    placements.boot("trusted", [], host=host.name)
    placements.boot("plain", [host.name], host=host.name)


def _heal(host: ComputeHost, backend: Backend, operator: Operator, placements: Placements) -> None:
    step(f"{host.name} is booted clean again; nobody has to do anything on the backend")
    host.boot(BOOTS[host.name])
    host.start_agent(backend)
    _wait_for_levels(operator, {host.name: "trusted"})
    _show_hosts(operator)
    _wait_out_refresh()
    placements.boot("trusted", [host.name], host=host.name)


def _lose_backend(backend: Backend, placements: Placements) -> None:
    step("The backend is stopped")
    backend.stop()
    say("its last word holds until the lease ends, and not longer")
    placements.boot("trusted", GOOD)
    say(f"waiting {LEASE_SECONDS} s, the lease")
    time.sleep(LEASE_SECONDS)
    placements.boot("trusted", [])
    placements.boot("plain", BOOTS)


def _oat(operator: Operator, *arguments: str) -> None:
    """Run a command of the operator and show it."""
    output = operator.run(*arguments)
    command("oat", *arguments, output=output)


def _wait_for_levels(operator: Operator, levels: dict[str, str]) -> None:
    def there() -> bool:
        hosts = operator.hosts()
        return all(hosts[name]["level"] == level for name, level in levels.items())

    wait_for(there, _SECONDS, ", ".join(f"{name} to be {level}" for name, level in levels.items()))


def _wait_out_refresh() -> None:
    """The filter may use what it knows for its ``refresh_interval``."""
    time.sleep(0.6)


def _show_hosts(operator: Operator) -> None:
    """The table of hosts, also of those the backend has never heard of."""
    known = operator.hosts()
    table(
        ("host", "verdict", "reason"),
        (
            (name, known[name]["level"], known[name]["reason"] or "")
            if name in known
            else (name, "unknown", "never enrolled")
            for name in BOOTS
        ),
    )


def _relative(path: str | os.PathLike[str]) -> str:
    return os.path.relpath(path, REPOSITORY)


@contextlib.contextmanager
def _own_folder() -> Iterator[None]:
    """A fresh folder for everything that is written, gone at the end."""
    with (REPOSITORY / ".venv" / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("tools/demo: it is running already in this folder") from None
        shutil.rmtree(FOLDER, ignore_errors=True)
        temporary = FOLDER / "tmp"
        temporary.mkdir(parents=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        try:
            yield
        finally:
            shutil.rmtree(FOLDER, ignore_errors=True)


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools/demo")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()

    def on_signal(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, on_signal)
    try:
        with _own_folder(), contextlib.ExitStack() as stack:
            placements, backend, operator = tell(stack)
            step("All servers")
            placements.show()
            if arguments.keep:
                wait_for_quit(placements, backend, operator)
            step("Stopping everything")
    except (BackendError, OatError, OSError, ReplayError, SoftwareTpmError, WaitTimeout) as error:
        print(f"tools/demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if placements.wrong:
        print(f"{len(placements.wrong)} of {len(placements.all)} placements are WRONG")
        return 1
    print(f"All {len(placements.all)} placements are as they must be.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
