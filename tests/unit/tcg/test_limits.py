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
"""What the formats may cost, and that no bytes make a parser fail in another way than it says."""

import functools
import hashlib
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.tcg.attestation import parse_quote
from oat_trusted_filter.tcg.bootlog import MAX_LOG_BYTES, parse_boot_log, replay
from oat_trusted_filter.tcg.errors import FormatError, SignatureError
from oat_trusted_filter.tcg.pcr import pcr_digest
from oat_trusted_filter.tcg.public import check_attestation_key, parse_public, verify_signature
from oat_trusted_filter.tcg.signature import TPM_ALG_RSAPSS, parse_signature
from tests.lab.boots import Boot
from tests.lab.quotes import SigningKey, quote, select
from tests.unit.tcg.logs import encode_sha1, first_event, recorded, spec_id

LOG = Boot("machine-a").boot_log
BANKS = ("sha1", "sha256", "sha384")
SELECTIONS = select(BANKS, BANKS, range(16))
MAKERS = {
    "p256": SigningKey.ecc,
    "p384": lambda: SigningKey.ecc(4, "sha384"),
    "rsassa": SigningKey.rsa,
    "rsapss": lambda: SigningKey.rsa(2048, TPM_ALG_RSAPSS),
}


@functools.cache
def signed(kind):
    key = MAKERS[kind]()
    return key.public, *quote(key, b"n" * 32, Boot("machine-a").pcrs, SELECTIONS)


def cpu_seconds(call, repeat=5):
    best = float("inf")
    for _ in range(repeat):
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
    return best


def refusal(parse, data):
    with pytest.raises(FormatError) as refused:
        parse(data)
    return refused.value.code


def mutations(data):
    """The bytes with one to four of them changed, or cut out of the middle."""
    change = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))

    def changed(changes):
        new = bytearray(data)
        for position, value in changes:
            new[position] = value
        return bytes(new)

    def cut(span):
        first, last = sorted(span)
        return data[:first] + data[last:]

    position = st.integers(0, len(data))
    return st.one_of(
        st.lists(change, min_size=1, max_size=4).map(changed),
        st.tuples(position, position).map(cut),
    )


@pytest.mark.parametrize("kind", MAKERS)
def test_A8_D8_a_key_a_quote_or_a_signature_with_bytes_changed_is_read_or_refused(kind):
    public, message, signature = signed(kind)

    @given(mutations(public), mutations(message), mutations(signature))
    def check(changed_public, changed_message, changed_signature):
        for parse, data in ((parse_public, changed_public), (parse_quote, changed_message)):
            try:
                parse(data)
            except FormatError as error:
                assert error.code
        try:
            check_attestation_key(parse_public(changed_public))
        except FormatError as error:
            assert error.code
        if changed_message == message and changed_signature == signature:
            return
        try:
            parsed = parse_signature(changed_signature)
            verify_signature(parse_public(public), changed_message, parsed)
        except (FormatError, SignatureError) as error:
            assert error.code
        else:
            # Nothing but the signature itself may verify.
            assert changed_message == message
            assert parsed == parse_signature(signature)

    check()


def test_a_single_pcr_has_a_digest_of_its_own():
    values = Boot("machine-a").pcrs
    for pcr in (0, 23):
        digest = pcr_digest(select(("sha256",), ("sha256",), [pcr]), values, "sha256")
        assert digest == hashlib.sha256(values["sha256"][pcr]).digest()


@pytest.mark.parametrize("length", [0, 19, 21, 31, 33])
def test_a_value_of_a_wrong_length_is_named_even_if_another_makes_up_for_it(length):
    values = {bank: dict(of_bank) for bank, of_bank in Boot("machine-a").pcrs.items()}
    values["sha256"][3] = bytes(length)
    values["sha256"][4] = bytes(64 - length)

    with pytest.raises(FormatError, match=r"PCR 3 \(sha256\)") as refused:
        pcr_digest(SELECTIONS, values, "sha256")

    assert refused.value.code == "pcr-length"


def test_D5_a_specification_id_of_a_version_that_is_not_known_is_refused():
    known = spec_id({"sha256": 32})

    for version in (b"01\0", b"04\0", b"03 ", b""):
        data = b"Spec ID Event" + version
        assert refusal(parse_boot_log, first_event(data + known[16:])) == "boot-log-spec-id"


@pytest.mark.parametrize("version", [b"00\0", b"02\0"])
def test_D7_the_specification_ids_of_the_sha1_format_are_known(version):
    first = first_event(b"Spec ID Event" + version + bytes(12))

    log = parse_boot_log(first + encode_sha1(recorded()))

    assert log.banks == ("sha1",)
    assert replay(log, "sha1") == replay(parse_boot_log(LOG), "sha1")


def test_D7_a_log_of_the_sha1_format_may_begin_with_the_startup_locality():
    note = first_event(b"StartupLocality\0\3")

    assert parse_boot_log(note + encode_sha1(recorded())).startup_locality == 3


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
@pytest.mark.parametrize("log", [LOG, encode_sha1(recorded())], ids=["crypto-agile", "sha1"])
def test_D5_padding_is_refused_up_to_the_largest_log(filler, log):
    for data in (
        log + filler,
        log + filler * 12,
        log + filler * 64,
        log + filler * (MAX_LOG_BYTES - len(log)),
    ):
        assert refusal(parse_boot_log, data).startswith("boot-log-")
    assert cpu_seconds(lambda: refusal(parse_boot_log, data)) < 0.05  # noqa: B023


def test_a_key_whose_numbers_make_no_key_is_refused():
    data = signed("rsassa")[0]
    modulus = data[-258:]
    exponent_one = data[: -len(modulus) - 4] + struct.pack(">I", 1) + modulus

    assert refusal(parse_public, exponent_one) == "public-key"


def test_A8_a_key_with_an_even_modulus_verifies_nothing():
    """`cryptography` loads it."""
    data, message, signature = signed("rsassa")
    public = parse_public(data[:-1] + bytes([data[-1] & 0xFE]))

    with pytest.raises(SignatureError):
        verify_signature(public, message, parse_signature(signature))
