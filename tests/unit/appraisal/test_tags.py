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
"""Step 12 of the appraisal: the tags of a host, and what its TPM holds of them."""

import datetime
from dataclasses import replace

import pytest

from oat_trusted_filter.backend.appraisal.appraise import appraise, judge
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.expiry import with_expiry_warnings
from oat_trusted_filter.backend.appraisal.policy import DEFAULT_POLICY
from oat_trusted_filter.backend.appraisal.records import (
    EvidenceRefused,
    HostTags,
    TagCertification,
    TagEvidence,
)
from oat_trusted_filter.backend.appraisal.rule_records import TagPolicy
from oat_trusted_filter.tcg.nv import TAG_INDEX, NvPublic, tag_contents
from tests.lab.quotes import SigningKey, certify
from tests.unit.appraisal.hosts import NONCE, NOW, Host, reference_of

REFERENCES = [reference_of("machine-a", "machine-b")]
TAGS = HostTags(7, {"zone": "eu-1", "rack": "7"}, b"d" * 32)
HELD = tag_contents(7, b"d" * 32)
ZONE = TagPolicy({"zone": frozenset({"eu-1", "eu-2"})})
NVRAM = TagPolicy(nvram="required")


@pytest.fixture(scope="module")
def host():
    return Host()


def verdict(host, policy, tags=TAGS, sent=None):
    evidence = replace(host.evidence(), tags=None if sent is None else TagCertification(*sent))
    demand = replace(DEFAULT_POLICY, tags=policy)
    return appraise(evidence, host.binding, demand, REFERENCES, None, NOW, tags=tags)


def found(judged):
    return judged.level, [finding.code for finding in judged.findings]


def refusal(host, sent):
    with pytest.raises(EvidenceRefused) as refused:
        verdict(host, NVRAM, sent=sent)
    assert refused.value.authentic
    assert refused.value.state is not None
    return refused.value.code


# -- 6 --------------------------------------------------------------------------------------------


def test_a_host_with_the_tags_a_policy_asks_for_is_trusted(host):
    both = TagPolicy({"zone": frozenset({"eu-1"}), "rack": frozenset({"7", "8"})})
    assert found(verdict(host, both)) == ("trusted", [])


@pytest.mark.parametrize(
    ("tags", "has"),
    [(None, None), (replace(TAGS, tags={"rack": "7"}), None),
     (replace(TAGS, tags={"zone": "us-1"}), "us-1")],
)  # fmt: skip
def test_a_host_without_them_is_not(host, tags, has):
    judged = verdict(host, ZONE, tags)
    assert found(judged) == ("untrusted", ["tag-missing"])
    (finding,) = judged.findings
    assert (finding.description, finding.actual, finding.expected) == (
        "zone", has, ("eu-1", "eu-2"),
    )  # fmt: skip


def test_a_policy_that_does_not_ask_takes_any_host(host):
    assert found(verdict(host, TagPolicy(), None)) == ("trusted", [])


def test_a_verdict_that_rests_on_tags_ends_with_them(host):
    end = NOW + datetime.timedelta(hours=1)
    tags = replace(TAGS, valid_until=end)
    assert verdict(host, ZONE, tags).valid_until == end
    assert verdict(host, TagPolicy(), tags).valid_until is None


def test_the_end_of_tags_is_warned_of(host):
    tags = replace(TAGS, valid_until=NOW + datetime.timedelta(hours=1))
    judged = verdict(host, TagPolicy(), tags)
    for hours, codes in ((2, ["tags-expiring"]), (0.5, [])):
        warned = with_expiry_warnings(judged, {}, NOW, datetime.timedelta(hours=hours))
        assert found(warned) == ("trusted", codes)


# -- 7 --------------------------------------------------------------------------------------------


def test_a_tpm_that_holds_the_record_is_believed(host):
    judged = verdict(host, NVRAM, sent=certify(host.key, NONCE, HELD))
    assert found(judged) == ("trusted", [])
    assert judged.tags == TagEvidence(TAGS, HELD)


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(tag_contents(6, b"d" * 32), id="stale serial"),
        pytest.param(tag_contents(7, b"e" * 32), id="replaced record"),
        pytest.param(bytes(40), id="nothing"),
    ],
)
def test_a_tpm_that_holds_another_record_proves_nothing(host, contents):
    judged = verdict(host, NVRAM, sent=certify(host.key, NONCE, contents))
    assert found(judged) == ("unknown", ["tag-not-in-tpm"])
    assert judged.findings[0].actual == contents.hex()
    assert judged.findings[0].expected == (HELD.hex(),)


def test_a_tpm_that_shows_nothing_proves_nothing(host):
    assert found(verdict(host, NVRAM)) == ("unknown", ["tag-not-in-tpm"])


def test_without_tags_there_is_nothing_to_hold(host):
    sent = certify(host.key, NONCE, HELD)
    assert found(verdict(host, NVRAM, None, sent)) == ("untrusted", ["tag-missing"])


def test_a_missing_record_does_not_excuse_what_else_is_wrong(host):
    judged = verdict(Host("machine-a-loader", host.key), NVRAM)
    assert judged.level == "untrusted"


def test_stored_evidence_is_judged_by_what_the_tpm_has_shown(host):
    log = read_boot_log(host.boot_log)
    demand = replace(DEFAULT_POLICY, tags=NVRAM)
    for known, level in (
        (TagEvidence(TAGS, HELD), "trusted"),
        (TagEvidence(replace(TAGS, serial=8), HELD), "unknown"),
        (TagEvidence(TAGS), "unknown"),
        (TagEvidence(None, HELD), "untrusted"),
    ):
        assert judge(log, host.values, demand, REFERENCES, NOW, tags=known).level == level


# -- 1 to 5 ---------------------------------------------------------------------------------------


def test_A5_1_what_is_no_certification_is_refused(host):
    message, signature = certify(host.key, NONCE, HELD)
    assert refusal(host, (message[:-1], signature)) == "certification-truncated"
    assert refusal(host, (message, signature[:-1])).startswith("signature-")
    assert refusal(host, (host.evidence().quote, signature)) == "certification-type"


@pytest.mark.parametrize("nonce", [b"", NONCE[:-1], NONCE + b"\0", bytes(32)])
def test_A6_2_a_certification_for_another_challenge_is_refused(host, nonce):
    assert refusal(host, certify(host.key, nonce, HELD)) == "tag-nonce"


def test_A12_3_a_certification_by_another_tpm_is_refused(host):
    assert refusal(host, certify(SigningKey.ecc(), NONCE, HELD)) == "tag-signature"


def test_A4_3_a_changed_bit_is_refused(host):
    message, signature = certify(host.key, NONCE, HELD)
    assert refusal(host, (message[:-1] + bytes([message[-1] ^ 1]), signature)) == "tag-signature"


@pytest.mark.parametrize(
    "other",
    [
        NvPublic(TAG_INDEX.index + 1, TAG_INDEX.attributes, TAG_INDEX.size),
        # Everybody may write it.
        NvPublic(TAG_INDEX.index, TAG_INDEX.attributes | 1 << 2, TAG_INDEX.size),
        NvPublic(TAG_INDEX.index, TAG_INDEX.attributes, TAG_INDEX.size + 8),
    ],
)
def test_another_index_is_refused(host, other):
    sent = certify(host.key, NONCE, HELD, name=other.name)
    assert refusal(host, sent) == "tag-index"


def test_another_part_of_the_index_is_refused(host):
    assert refusal(host, certify(host.key, NONCE, HELD, offset=8)) == "tag-range"
    assert refusal(host, certify(host.key, NONCE, HELD[:8])) == "tag-range"


def test_what_nobody_asked_for_is_not_looked_at(host):
    assert found(verdict(host, ZONE, sent=(b"rubbish", b""))) == ("trusted", [])
