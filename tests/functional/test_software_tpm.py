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
"""The software TPM that stands in for a host's TPM in tests and in the demo."""

import hashlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from tpm2_pytss import ESAPI, ESYS_TR

from tests.lab.swtpm import PCR_BANKS, SoftwareTpm, SoftwareTpmError
from tests.lab.wait import WaitTimeout, wait_for

# Where a TPM keeps its EK certificates (TCG EK Credential Profile 2.5, 2.2.1.4 and .5).
EK_CERTIFICATES = (0x01C00002, 0x01C00016)
NV_CHUNK = 1024


@pytest.fixture
def tpm(tmp_path):
    with SoftwareTpm(tmp_path / "tpm", tmp_path / "ca") as software_tpm:
        yield software_tpm


def clock(tpm):
    with ESAPI(tpm.tcti) as esapi:
        return esapi.read_clock().clockInfo


def ek_certificate(tpm, index):
    with ESAPI(tpm.tcti) as esapi:
        handle = esapi.tr_from_tpmpublic(index)
        public, _ = esapi.nv_read_public(handle)
        size = public.nvPublic.dataSize
        data = b"".join(
            bytes(esapi.nv_read(handle, min(NV_CHUNK, size - at), at, auth_handle=ESYS_TR.OWNER))
            for at in range(0, size, NV_CHUNK)
        )
    return x509.load_der_x509_certificate(data)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("index", EK_CERTIFICATES, ids=hex)
def test_ek_certificates_chain_to_the_ca_certificates_given(tpm, index):
    root, issuer = (
        x509.load_pem_x509_certificate(path.read_bytes()) for path in tpm.ca_certificates
    )
    certificate = ek_certificate(tpm, index)

    certificate.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)


def test_tpms_of_one_ca_have_identities_of_their_own(tmp_path):
    tpms = [SoftwareTpm(tmp_path / f"tpm-{n}", tmp_path / "ca") for n in range(3)]
    # Made at the same time, as a demo does, the first of them making the CA.
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda tpm: tpm.create(), tpms))
    keys, issuers, serials = set(), set(), set()
    for tpm in tpms:
        with tpm:
            certificate = ek_certificate(tpm, EK_CERTIFICATES[0])
        keys.add(certificate.public_key().public_numbers())
        issuers.add(certificate.issuer)
        serials.add(certificate.serial_number)

    assert (len(keys), len(issuers), len(serials)) == (3, 1, 3)


def test_create_again_keeps_the_identity(tpm):
    before = ek_certificate(tpm, EK_CERTIFICATES[0])
    tpm.stop()
    tpm.create()
    tpm.start()

    assert ek_certificate(tpm, EK_CERTIFICATES[0]) == before


def test_allocated_banks(tpm):
    with ESAPI(tpm.tcti) as esapi:
        _, _, values = esapi.pcr_read("sha1:0+sha256:0+sha384:0+sha512:0")

    # The fourth bank is not allocated, so it has no value.
    assert [len(bytes(value)) for value in values] == [
        hashlib.new(bank).digest_size for bank in PCR_BANKS
    ]


def test_power_cycle_raises_the_reset_count_and_resets_pcrs(tpm):
    tcti = tpm.tcti
    before = clock(tpm)
    with ESAPI(tpm.tcti) as esapi:
        esapi.pcr_event(ESYS_TR.PCR16, b"something")
    tpm.power_cycle()
    after = clock(tpm)
    with ESAPI(tpm.tcti) as esapi:
        _, _, values = esapi.pcr_read("sha256:16")

    assert tpm.tcti == tcti
    assert after.resetCount == before.resetCount + 1
    assert after.safe
    assert bytes(values[0]) == bytes(32)


def test_power_cut_leaves_the_clock_unsafe(tpm):
    before = clock(tpm)
    tpm.power_cycle(orderly=False)
    after = clock(tpm)

    assert after.resetCount == before.resetCount + 1
    assert not after.safe


def test_a_connection_from_before_a_power_cycle_meets_the_tpm_after_it(tpm):
    # tpm2-tss connects to swtpm for each command, so a running agent notices only the reset.
    with ESAPI(tpm.tcti) as connected:
        before = connected.read_clock().clockInfo
        tpm.power_cycle()
        after = connected.read_clock().clockInfo

    assert after.resetCount == before.resetCount + 1
    assert after.safe


def test_stop_leaves_no_process_and_no_socket(tpm):
    pid = tpm.pid
    tpm.stop()
    tpm.stop()

    assert not alive(pid)
    assert not tpm.running
    assert tpm.pid is None
    assert not [path for path in tpm.state_dir.iterdir() if path.is_socket()]


def test_a_folder_with_a_long_path_works_and_leaves_nothing_elsewhere(tmp_path):
    tpm = SoftwareTpm(tmp_path / ("long-" * 30), tmp_path / "ca")
    with tpm:
        first = clock(tpm).resetCount
        sockets = tpm.control_socket.parent
        tpm.power_cycle()
        assert clock(tpm).resetCount == first + 1
        assert tpm.control_socket.parent == sockets
        assert sockets.stat().st_mode & 0o077 == 0

    assert not sockets.exists()


def test_all_files_are_under_the_folders_given(tmp_path, monkeypatch):
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    for folder in (home, temporary):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    with SoftwareTpm(tmp_path / "tpm", tmp_path / "ca") as tpm:
        clock(tpm)

    assert not list(home.iterdir())
    assert not list(temporary.iterdir())
    assert not list(Path(tmp_path / "tpm").glob("swtpm_setup.certs*"))


def test_private_files_are_the_owners_alone(tpm):
    assert tpm.state_dir.stat().st_mode & 0o077 == 0
    assert tpm.ca_dir.stat().st_mode & 0o077 == 0


def test_a_tpm_that_cannot_start_says_why(tmp_path):
    tpm = SoftwareTpm(tmp_path / "tpm", tmp_path / "ca")
    tpm.create()
    (tpm.state_dir / "tpm2-00.permall").write_bytes(b"damaged")
    with pytest.raises(SoftwareTpmError, match="swtpm"):
        tpm.start()

    assert not tpm.running


def test_a_missing_program_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SoftwareTpmError, match="swtpm_localca is not installed"):
        SoftwareTpm(tmp_path / "tpm", tmp_path / "ca").create()


def test_a_socket_of_a_killed_tpm_is_no_obstacle(tmp_path):
    tpm = SoftwareTpm(tmp_path / "tpm", tmp_path / "ca")
    tpm.create()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tpm.control_socket))
    with tpm:
        assert clock(tpm).resetCount > 0


def test_wait_for_gives_up_at_its_deadline_and_names_what_it_waited_for():
    with pytest.raises(WaitTimeout, match="the moon"):
        wait_for(lambda: None, 0.02, "the moon")


def test_wait_for_returns_what_the_condition_gave():
    answers = iter([None, "", "here"])

    assert wait_for(lambda: next(answers), 5, "an answer") == "here"
