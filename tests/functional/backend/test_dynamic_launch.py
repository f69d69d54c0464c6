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
"""Hosts that launch dynamically, as Intel TXT and AMD SKINIT do, and one that should have."""

import pytest
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPML_DIGEST_VALUES,
    TPMT_HA,
    TPMU_HA,
    TSS2_Exception,
)

from tests.functional.backend.parts import ComputeHost
from tests.lab.boots import launch_dynamically

LOADER, KERNEL = "sinit-1.bin", "kernel 6.1"
POLICY = {
    "name": "default",
    "dynamic_launch": "required",
    "requirements": [
        {"kind": "platform", "pcrs": [0, 2, 4, 7]},
        {"kind": "txt", "pcrs": [17, 18]},
    ],
}


@pytest.fixture(scope="module")
def launched(backend, tpms):
    """A host that has launched as it should."""
    host = ComputeHost(backend, tpms[2])
    launch_dynamically(host.software, LOADER, KERNEL)
    return host


@pytest.fixture
def known(launched, operator):
    """Its launch is taken as good, and asked for."""
    if launched.fingerprint is None:
        assert launched.enrol() == "pending"
        operator.approve(launched)
        operator.call("PUT", "/v1/policies/default", POLICY)
    else:
        launched.boot("machine-a")
        launch_dynamically(launched.software, LOADER, KERNEL)
    launched.round()
    operator.trust(launched)
    operator.trust(launched, kind="txt", pcrs=[17, 18])
    assert launched.round().level == "trusted"
    return launched


def findings(operator, host):
    return [(item["code"], item["pcr"]) for item in operator.show(host.name)["findings"]]


def test_a_host_that_did_not_launch_is_told_so(known, operator):
    known.boot("machine-a")
    outcome = known.round()
    assert (outcome.level, outcome.code) == ("untrusted", "no-dynamic-launch")
    assert "has made no dynamic launch since it booted" in outcome.message
    assert ("no-dynamic-launch", 17) in findings(operator, known)
    # It heals with the launch; nothing else has to be done.
    launch_dynamically(known.software, LOADER, KERNEL)
    assert known.round().level == "trusted"


@pytest.mark.parametrize(
    ("loader", "kernel", "pcrs"), [("other.bin", KERNEL, {17}), (LOADER, "kernel 5", {18})]
)
def test_another_launch_differs_in_its_pcr(known, operator, loader, kernel, pcrs):
    known.boot("machine-a")
    launch_dynamically(known.software, loader, kernel)
    assert known.round().level == "untrusted"
    assert set(findings(operator, known)) == {("pcr-mismatch", pcr) for pcr in pcrs}


def test_A11_root_cannot_extend_what_a_launch_would(known):
    """Only the launched environment speaks at locality 2; the TPM refuses everybody else."""
    known.boot("machine-a")
    value = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(32)))
    for pcr in (17, 18):
        with ESAPI(known.software.tcti) as tpm, pytest.raises(TSS2_Exception, match="locality"):
            tpm.pcr_extend(ESYS_TR(pcr), TPML_DIGEST_VALUES([value]))
    assert known.round().code == "no-dynamic-launch"


def test_a_second_launch_is_another_one(known, operator):
    """What was measured first is gone, so the values are those of the last launch alone."""
    launch_dynamically(known.software, "other.bin", KERNEL)
    assert findings_after(known, operator) == {("pcr-mismatch", 17)}
    launch_dynamically(known.software, LOADER, KERNEL)
    assert known.round().level == "trusted"


def findings_after(host, operator):
    host.round()
    return set(findings(operator, host))


def test_D6_hosts_that_start_at_other_localities_are_judged_like_others(backend, tpms, operator):
    operator.call("PUT", "/v1/policies/default", {"name": "default"})
    host = ComputeHost(backend, tpms[1])
    assert host.enrol() == "pending"
    operator.approve(host)
    for boot in ("locality-3", "h-crtm"):
        host.boot(boot)
        assert host.round().code == "no-reference"
        name = operator.trust(host)
        assert host.round().level == "trusted"
        operator.call("DELETE", f"/v1/reference-sets/{name}")
