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
"""Tags held by software TPMs: written by the agent, certified, and what becomes of forgeries."""

import base64
import contextlib
import hashlib

import pytest
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2B_DATA,
    TPM2B_NV_PUBLIC,
    TPMS_NV_PUBLIC,
    TPMT_SIG_SCHEME,
)

from oat_trusted_filter.agent.attestation_key import attestation_key
from oat_trusted_filter.agent.enrolment import open_tpm
from oat_trusted_filter.agent.tags import certify_tags, write_tags
from oat_trusted_filter.tcg.nv import TAG_INDEX, TPMA_NV_WRITTEN, NvPublic, tag_contents
from tests.functional.backend.parts import ComputeHost, b64

ZONE = {"zone": "eu-1"}


@pytest.fixture
def asking(operator):
    """A policy that wants the tags of the hosts in their TPMs, and tags to assign."""
    operator.call("POST", "/v1/tags", {"name": "zone", "values": ["eu-1", "us-1"]})
    before = operator.call("GET", "/v1/policies/default")
    demand = {"require": {"zone": ["eu-1", "us-1"]}, "nvram": "required"}
    operator.call("PUT", "/v1/policies/default", before | {"tags": demand})
    yield
    operator.call("PUT", "/v1/policies/default", before)


@pytest.fixture
def tagged(trusted, asking, operator):
    """A trusted host whose TPM has to hold its tags, and does not yet."""
    undefine(trusted)
    operator.call("PUT", f"/v1/hosts/{trusted.name}/tags", {"tags": ZONE})
    return trusted


@contextlib.contextmanager
def keyed(host):
    """The TPM of the host, with its attestation key loaded."""
    with open_tpm(host.settings) as tpm, attestation_key(tpm, "ecc") as key:
        yield tpm, key


def undefine(host, index=TAG_INDEX.index):
    """No such index any more."""
    with open_tpm(host.settings) as tpm, contextlib.suppress(Exception):
        tpm.esapi.nv_undefine_space(tpm.esapi.tr_from_tpmpublic(index))


def told(operator, host):
    """Level and tags as relying parties are told."""
    found = operator.call("GET", "/v1/verdicts")["hosts"]
    told = next(item for item in found if item["host"] == host.name)
    return told["level"], told.get("tags", {})


def codes(operator, host):
    return [finding["code"] for finding in operator.show(host.name)["findings"]]


def nonce_of(challenge):
    return hashlib.sha256(base64.urlsafe_b64decode(challenge["challenge"])).digest()


def submit(host, certify, *, nonce=None):
    """Evidence with what this function makes a TPM certify; the answer."""
    challenge = host.challenge()
    body = host.evidence(challenge)
    certification, signature = certify(nonce or nonce_of(challenge))
    body["tags"] = {"certification": b64(certification), "signature": b64(signature)}
    return host.submit(body)


def certifying(host, **fields):
    """What TPM2_NV_Certify of this host's TPM says of an index."""

    def certify(nonce):
        with keyed(host) as (tpm, key):
            index = tpm.esapi.tr_from_tpmpublic(fields.get("index", TAG_INDEX.index))
            attest, signature = tpm.esapi.nv_certify(
                key.handle, index, TPM2B_DATA(nonce), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
                fields.get("size", TAG_INDEX.size), fields.get("offset", 0), auth_handle=index,
            )  # fmt: skip
            return bytes(attest), bytes(signature.marshal())

    return certify


def hold(host, contents, public=TAG_INDEX):
    """Write this into an index of the host's TPM, as root may."""
    undefine(host, public.index)
    with open_tpm(host.settings) as tpm:
        index = tpm.esapi.nv_define_space(
            None,
            TPM2B_NV_PUBLIC(
                nvPublic=TPMS_NV_PUBLIC(
                    nvIndex=public.index,
                    nameAlg=TPM2_ALG.SHA256,
                    attributes=public.attributes & ~TPMA_NV_WRITTEN,
                    dataSize=public.size,
                )
            ),
            ESYS_TR.OWNER,
        )
        tpm.esapi.nv_write(index, contents, auth_handle=ESYS_TR.OWNER)


def wanted(host):
    """What the index has to hold, as the backend says."""
    return bytes.fromhex(host.submit().json["tag_contents"])


def test_the_agent_writes_the_record_when_it_is_wanted_and_proves_it(tagged, operator):
    assert told(operator, tagged) == ("unknown", {})
    assert codes(operator, tagged) == ["tag-not-in-tpm"]
    agent = tagged.agent()
    assert agent.round().level == "trusted"
    assert told(operator, tagged) == ("trusted", ZONE)
    # An agent that is started again proves it at once, and so does one after a reboot.
    assert tagged.round().level == "trusted"
    tagged.boot("machine-a")
    assert tagged.round().level == "trusted"
    # Other tags are in the TPM after one round.
    operator.call("PUT", f"/v1/hosts/{tagged.name}/tags", {"tags": {"zone": "us-1"}})
    assert told(operator, tagged) == ("unknown", {})
    assert agent.round().level == "trusted"
    assert told(operator, tagged) == ("trusted", {"zone": "us-1"})


def test_an_owner_with_a_password_lets_nobody_write(tagged, operator, caplog):
    with open_tpm(tagged.settings) as tpm:
        tpm.esapi.hierarchy_change_auth(ESYS_TR.OWNER, "owner secret")
    try:
        outcome = tagged.round()
        assert (outcome.level, outcome.code) == ("unknown", "tag-not-in-tpm")
        assert "check [agent] owner_password" in caplog.text
        assert "owner secret" not in caplog.text
    finally:
        with open_tpm(tagged.settings) as tpm:
            tpm.esapi.tr_set_auth(ESYS_TR.OWNER, "owner secret")
            tpm.esapi.hierarchy_change_auth(ESYS_TR.OWNER, "")


def test_an_index_of_somebody_else_is_left_alone(tagged, operator, caplog):
    other = NvPublic(TAG_INDEX.index, TAG_INDEX.attributes, 16)
    hold(tagged, b"somebody else's.", other)
    outcome = tagged.round()
    assert (outcome.level, outcome.code) == ("unknown", "tag-not-in-tpm")
    assert "tpm-nv-taken" in caplog.text
    with open_tpm(tagged.settings) as tpm:
        assert tpm.read_nv(TAG_INDEX.index) == b"somebody else's."
    undefine(tagged)
    assert tagged.round().level == "trusted"


def test_a_stale_serial_is_not_believed(tagged, operator):
    stale = wanted(tagged)
    assert tagged.round().level == "trusted"
    operator.call("PUT", f"/v1/hosts/{tagged.name}/tags", {"tags": ZONE})
    hold(tagged, stale)
    answer = submit(tagged, certifying(tagged))
    assert (answer.status, answer.json["level"]) == (200, "unknown")
    assert codes(operator, tagged) == ["tag-not-in-tpm"]


def test_a_record_root_made_up_is_not_believed(tagged, operator):
    serial = int.from_bytes(wanted(tagged)[:8], "big")
    hold(tagged, tag_contents(serial, hashlib.sha256(b"zone=us-1").digest()))
    assert submit(tagged, certifying(tagged)).json["level"] == "unknown"
    assert told(operator, tagged) == ("unknown", {})


def test_another_index_with_the_right_contents_is_refused(tagged, operator):
    contents = wanted(tagged)
    other = NvPublic(TAG_INDEX.index + 1, TAG_INDEX.attributes, TAG_INDEX.size)
    hold(tagged, contents, other)
    answer = submit(tagged, certifying(tagged, index=other.index))
    undefine(tagged, other.index)
    assert (answer.status, answer.code) == (422, "tag-index")
    # The same number, but everybody who knows its password may write it.
    hold(tagged, contents, NvPublic(TAG_INDEX.index, TAG_INDEX.attributes | 1 << 2, TAG_INDEX.size))
    answer = submit(tagged, certifying(tagged))
    assert (answer.status, answer.code) == (422, "tag-index")
    assert told(operator, tagged) == ("untrusted", {})
    undefine(tagged)


def test_another_part_of_the_index_is_refused(tagged):
    hold(tagged, wanted(tagged))
    for part in ({"offset": 8, "size": 32}, {"size": 8}):
        answer = submit(tagged, certifying(tagged, **part))
        assert (answer.status, answer.code) == (422, "tag-range")


def test_A6_a_certification_for_another_challenge_is_refused(tagged):
    assert tagged.round().level == "trusted"
    answer = submit(tagged, certifying(tagged), nonce=nonce_of(tagged.challenge()))
    assert (answer.status, answer.code) == (422, "tag-nonce")
    answer = submit(tagged, certifying(tagged), nonce=bytes(32))
    assert (answer.status, answer.code) == (422, "tag-nonce")


def test_A12_a_certification_by_another_tpm_is_refused(tagged, backend, tpms, operator):
    other = ComputeHost(backend, tpms[1])
    hold(other, wanted(tagged))
    answer = submit(tagged, certifying(other))
    undefine(other)
    assert (answer.status, answer.code) == (422, "tag-signature")
    assert told(operator, tagged) == ("untrusted", {})
    assert tagged.round().level == "trusted"


def test_writing_and_certifying_leaves_nothing_loaded(tagged):
    """Software TPMs have three slots, and so have real ones without a resource manager."""
    with keyed(tagged) as (tpm, key):
        for number in range(10):
            contents = tag_contents(number, bytes(32))
            write_tags(tpm, contents)
            certification, _ = certify_tags(tpm, key, b"n" * 32)
            assert certification.endswith(contents)
