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
"""NV indices: their Name, and what TPM2_NV_Certify signs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.tcg.attestation import TPM_ST_ATTEST_QUOTE, parse_nv_certification
from oat_trusted_filter.tcg.errors import FormatError
from oat_trusted_filter.tcg.nv import TAG_INDEX, NvPublic, tag_contents, tag_serial
from tests.lab.quotes import SigningKey, certify

KEY = SigningKey.ecc()
NONCE = b"n" * 32
CONTENTS = tag_contents(7, b"d" * 32)
#: By swtpm 0.7.1, once the index had been written.
NAME_BY_A_TPM = "000b77cf452030f30ea9c5fa76b916de39c1ddf4d23fced58c417a5e117e08038367"


def refusal(data):
    with pytest.raises(FormatError) as refused:
        parse_nv_certification(data)
    return refused.value.code


def test_the_name_is_that_of_a_tpm():
    assert TAG_INDEX.name.hex() == NAME_BY_A_TPM


@pytest.mark.parametrize(
    "other",
    [
        NvPublic(TAG_INDEX.index + 1, TAG_INDEX.attributes, TAG_INDEX.size),
        NvPublic(TAG_INDEX.index, TAG_INDEX.attributes ^ 1 << 2, TAG_INDEX.size),
        NvPublic(TAG_INDEX.index, TAG_INDEX.attributes, TAG_INDEX.size + 1),
    ],
)
def test_whatever_is_otherwise_has_another_name(other):
    assert other.name != TAG_INDEX.name


def test_contents_hold_serial_number_and_digest():
    assert len(CONTENTS) == TAG_INDEX.size
    assert tag_serial(CONTENTS) == 7
    assert CONTENTS.endswith(b"d" * 32)


def test_a_certification_is_read():
    message, _ = certify(KEY, NONCE, CONTENTS, offset=3)
    found = parse_nv_certification(message)
    assert found.raw == message
    assert (found.extra_data, found.index_name) == (NONCE, TAG_INDEX.name)
    assert (found.offset, found.contents) == (3, CONTENTS)
    assert found.clock_info.safe


def test_A5_what_is_no_certification_is_refused():
    message, _ = certify(KEY, NONCE, CONTENTS)
    assert refusal(message + b"\0") == "certification-trailing-bytes"
    for fields, code in (
        ({"magic": 0xFF544348}, "certification-magic"),
        ({"kind": TPM_ST_ATTEST_QUOTE}, "certification-type"),
        ({"safe": 2}, "certification-clock"),
    ):
        assert refusal(certify(KEY, NONCE, CONTENTS, **fields)[0]) == code
    for size in range(len(message)):
        assert refusal(message[:size]) == "certification-truncated"


@given(st.binary(max_size=200))
def test_D8_any_bytes_are_read_or_refused(data):
    message, _ = certify(KEY, NONCE, CONTENTS)
    for odd in (data, message[:40] + data, message[:90] + data):
        try:
            parse_nv_certification(odd)
        except FormatError as error:
            assert error.code.startswith("certification-")
