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
"""Secrets an operator gives to oat-agent in files: passwords of the TPM, tokens for enrolment."""

import pytest
from tpm2_pytss import ESYS_TR, TPM2B_AUTH, TPMA_NV

from oat_trusted_filter.agent.tpm import Tpm
from tests.functional.agent.certified import write_nv
from tests.functional.agent.running import RunningAgent, run_agent
from tests.lab.wait import wait_for


def secret_file(folder, name, text):
    """A file with this on its first line."""
    path = folder / name
    path.write_text(f"{text}\nnot this\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def locked(host_maker):
    """A host whose TPM has a password for each hierarchy.

    The certificates of its authority are in NV, where nobody but the owner may read them.
    """
    host = host_maker()
    write_nv(host.software, 0x01C00100, bytes(16), TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD)
    with Tpm(host.software.tcti) as tpm:
        tpm.esapi.hierarchy_change_auth(ESYS_TR.ENDORSEMENT, TPM2B_AUTH(b"endorse me"))
        tpm.esapi.hierarchy_change_auth(ESYS_TR.OWNER, TPM2B_AUTH(b"own me"))
    return host


def test_passwords_of_both_hierarchies_come_from_files(locked, operator, tmp_path):
    files = {
        "endorsement_password_file": secret_file(tmp_path, "endorsement", "endorse me"),
        "owner_password_file": secret_file(tmp_path, "owner", "own me"),
    }
    config = locked.config(tmp_path, **files)
    assert run_agent(config, "--once").returncode == 2
    operator.approve(locked.name)
    assert run_agent(config, "--once").stdout.startswith("untrusted")
    for left_out, option in (
        ("endorsement_password_file", "endorsement_password"),
        ("owner_password_file", "owner_password"),
    ):
        ran = run_agent(locked.config(tmp_path, **{**files, left_out: None}), "--check")
        assert ran.returncode == 3
        assert option in ran.stdout
        for secret in ("endorse me", "own me"):
            assert secret not in ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["endorsement_password", "owner_password"])
def test_mistakes_with_password_files_are_one_line(host_maker, tmp_path, name):
    host = host_maker()
    missing = tmp_path / "missing"
    ran = run_agent(host.config(tmp_path, **{f"{name}_file": missing}), "--once")
    assert ran.returncode == 3
    assert ran.stderr == (
        f"oat-agent: [configuration] [agent] {name}_file {missing} cannot be read: "
        "No such file or directory\n"
    )
    both = {name: "secret-1", f"{name}_file": secret_file(tmp_path, "file", "secret-2")}
    ran = run_agent(host.config(tmp_path, **both), "--once")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1)
    assert "remove one" in ran.stderr
    assert "secret" not in ran.stderr


@pytest.fixture
def token(operator):
    """Makes enrolment tokens."""

    def make(**fields):
        return operator.call("POST", "/v1/enrolment-tokens", fields)["token"]

    return make


def test_a_token_in_a_file_lets_a_host_in(host_maker, operator, tmp_path, token):
    host = host_maker()
    file = secret_file(tmp_path, "token", token(host=host.name))
    ran = run_agent(host.config(tmp_path, enrolment_token_file=file), "--once")
    assert ran.stdout.startswith("untrusted")
    assert operator.show(host.name)["state"] == "approved"
    assert file.read_text().splitlines()[0] not in ran.stderr + ran.stdout
    # Nothing needs it any more.
    file.unlink()
    ran = run_agent(host.config(tmp_path, enrolment_token_file=file), "--once")
    assert ran.stdout.startswith("untrusted")


def test_a_token_that_is_not_good_leaves_the_host_waiting_and_says_why(
    host_maker, operator, tmp_path, token
):
    host = host_maker()
    file = secret_file(tmp_path, "token", token(host="another"))
    ran = run_agent(host.config(tmp_path, enrolment_token_file=file), "--once")
    assert ran.returncode == 2
    assert "the enrolment token is for another host" in ran.stderr
    assert operator.show(host.name)["state"] == "pending"


def test_a_waiting_agent_takes_up_a_token_it_is_given_later(
    host_maker, operator, tmp_path, token
):
    host = host_maker()
    file = tmp_path / "token"
    with RunningAgent(host.config(tmp_path, enrolment_token_file=file)) as agent:
        wait_for(lambda: agent.log.count("host-pending") > 0, 30, "the host to wait")
        file.write_text(token())
        wait_for(lambda: "untrusted:" in agent.log, 30, "the first verdict")
        assert agent.terminate(seconds=5) == 0
    assert file.read_text() not in agent.log
