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
"""The client of the filter and the real backend understand each other.

Two hosts with software TPMs attest; what the filter knows of them is looked at over a life: no
verdict, unknown boots, good boots, a deletion, a backend that ends.
"""

import pytest

from oat_trusted_filter.client.drivers.oat import OatDriver
from oat_trusted_filter.client.http import AttestationClient, BackendRefused
from oat_trusted_filter.scheduler.source import VerdictSource
from tests.functional.cli.conftest import Host, Operator
from tests.lab.backend import Backend
from tests.lab.wait import wait_for

#: Seconds a verdict and a lease last here.
LIFETIME, LEASE = 300, 4.0


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    made = {name: Host(folder, folder / "ca", name) for name in ("node-a", "node-b")}
    yield made
    for host in made.values():
        host.software.stop()


@pytest.fixture(scope="module")
def backend(tmp_path_factory, hosts):
    ek_ca = tmp_path_factory.mktemp("ek-ca")
    for path in hosts["node-a"].software.ca_certificates:
        (ek_ca / path.name).write_bytes(path.read_bytes())
    running = Backend(
        tmp_path_factory.mktemp("backend"),
        options={
            ("attestation", "allow_software_tpm"): True,
            ("attestation", "ek_ca_dir"): str(ek_ca),
            ("attestation", "verdict_lifetime"): LIFETIME,
            ("attestation", "verdict_lease"): LEASE,
        },
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(backend):
    with_token = AttestationClient(
        backend.endpoint, token=backend.scheduler_token, cacert=backend.cacert
    )
    yield with_token
    with_token.close()


@pytest.fixture
def source(backend, client):
    return VerdictSource(
        lambda: OatDriver(
            AttestationClient(
                backend.endpoint, token=backend.scheduler_token, cacert=backend.cacert
            )
        ),
        region="",
        deadline=10.0,
        refresh_interval=0.0,
        max_age=60.0,
    )


def test_a_second_request_is_a_304_with_a_lease(client):
    first = client.get_verdicts()
    assert first.full
    assert first.lease == LEASE
    again = client.get_verdicts(first.since, first.etag)
    assert (again.not_modified, again.lease) == (True, LEASE)
    changes = client.get_verdicts(first.since)
    assert (changes.full, changes.hosts, changes.since) == (False, (), first.since)


@pytest.mark.parametrize("since", ["another-epoch:1", "another-epoch:999999"])
def test_E11_a_cursor_of_another_database_gets_a_full_snapshot(client, since):
    assert client.get_verdicts(since, '"another-epoch:1"').full


def test_E11_a_cursor_from_the_future_gets_a_full_snapshot(client):
    known = client.get_verdicts()
    assert client.get_verdicts(f"{known.epoch}:{known.cursor + 1000}").full


def test_a_wrong_token_and_no_token_are_refused(backend):
    for token in ("wrong", None):
        stranger = AttestationClient(backend.endpoint, token=token, cacert=backend.cacert)
        with pytest.raises(BackendRefused) as caught:
            stranger.get_verdicts()
        assert caught.value.status == 401
        stranger.close()


def test_the_token_of_the_scheduler_opens_nothing_else(client):
    with pytest.raises(BackendRefused) as caught:
        client.request("DELETE", "/v1/hosts/node-a")
    assert caught.value.status == 403


def test_verdicts_over_the_life_of_two_hosts(source, backend, hosts):
    oat = Operator(backend)
    assert source.view().verdict_on("node-a") == ("unknown", "not-enrolled")
    for host, boot in zip(hosts.values(), ("machine-a", "machine-b"), strict=True):
        host.boot(boot, backend)
        host.attest()
        assert source.view().trusted == frozenset()
        oat("host", "approve", host.name, "--yes")
        host.attest()
    view = source.view()
    assert {view.verdict_on(name).level for name in hosts} == {"untrusted"}
    assert all(view.verdict_on(name).reason for name in hosts)

    oat("reference", "create", "good", "--from-host", "node-a", "--from-host", "node-b")
    assert source.view().trusted == {"node-a", "node-b"}

    hosts["node-a"].boot("machine-a-loader", backend)
    hosts["node-a"].attest()
    view = source.view()
    assert view.trusted == {"node-b"}
    assert view.verdict_on("node-a").level == "untrusted"

    (fingerprint,) = (
        host["ek_fingerprint"] for host in oat.json("host", "list") if host["host"] == "node-a"
    )
    oat("host", "delete", "node-a", "--ek-fingerprint", fingerprint)
    assert source.view().verdict_on("node-a") == ("unknown", "not-enrolled")

    backend.stop()
    assert source.view().trusted == {"node-b"}
    wait_for(lambda: not source.view().valid, LEASE + 20, "the lease to end")
    assert source.view().trusted == frozenset()
    backend.start()
    wait_for(lambda: source.view().trusted == {"node-b"}, 30, "the backend to be believed again")
