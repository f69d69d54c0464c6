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
"""The digests of EFI images are those that firmware measures."""

import hashlib
import lzma
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oat_trusted_filter.tcg.authenticode import image_digests, is_image, parse_image
from oat_trusted_filter.tcg.bootlog import parse_boot_log
from oat_trusted_filter.tcg.errors import FormatError
from tests.lab.boots import Boot
from tests.lab.images import efi_image

SHIM = Path(__file__).parents[2] / "data" / "images" / "shimx64.efi.signed.xz"


def test_shim_has_the_digest_firmware_measured_in_the_recordings():
    data = lzma.decompress(SHIM.read_bytes())
    measured = Boot("machine-a").provenance["files_sha256"]["shimx64.efi.signed"]
    assert hashlib.sha256(data).hexdigest() == measured
    for boot in ("machine-a", "machine-b", "machine-a-loader"):
        (event,) = [
            event
            for event in parse_boot_log(Boot(boot).boot_log).events
            if event.pcr == 4 and b"B\0O\0O\0T\0X\0" in event.data
        ]
        for bank, digest in event.digests.items():
            assert image_digests(data, bank) == (digest,)


def expected(data, *skipped):
    kept, begin = b"", 0
    for start, end in skipped:
        kept += data[begin:start]
        begin = end
    return hashlib.sha256(kept + data[begin:]).digest()


@pytest.mark.parametrize("plus", [False, True])
def test_checksum_and_signatures_are_no_part_of_it(plus):
    unsigned = efi_image({".text": b"code" * 64}, plus=plus)
    signed = efi_image({".text": b"code" * 64}, plus=plus, signature=b"s" * 72, checksum=7)
    assert unsigned != signed
    assert image_digests(unsigned, "sha256") == image_digests(signed, "sha256")
    other = efi_image({".text": b"cope" * 64}, plus=plus)
    assert image_digests(other, "sha256") != image_digests(unsigned, "sha256")
    optional = 64 + 24
    entry = optional + (112 if plus else 96) + 32
    skipped = ((optional + 64, optional + 68), (entry, entry + 8))
    assert image_digests(unsigned, "sha256") == (expected(unsigned, *skipped),)


def test_what_follows_the_sections_is_part_of_it():
    image = efi_image({".text": b"code"})
    assert image_digests(image + b"more", "sha256") != image_digests(image, "sha256")


def test_a_unified_kernel_image_starts_the_kernel_in_it_as_well():
    kernel = efi_image({".text": b"kernel"})
    unified = efi_image({".text": b"stub", ".linux": kernel, ".initrd": b"files"})
    assert image_digests(unified, "sha256")[1:] == image_digests(kernel, "sha256")
    nested = efi_image({".linux": unified})
    assert len(image_digests(nested, "sha256")) == 1
    assert len(image_digests(efi_image({".linux": b"no image"}), "sha256")) == 1


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x1f\x8b" * 100, b"MZ" + b"\xff" * 100])
def test_what_is_no_image(data):
    assert not is_image(data)
    with pytest.raises(FormatError) as refused:
        image_digests(data, "sha256")
    assert refused.value.code == "image-invalid"


def test_every_image_that_ends_too_early_is_refused():
    image = efi_image({".text": b"code" * 32})
    for end in range(len(image)):
        with pytest.raises(FormatError):
            image_digests(image[:end], "sha256")


def test_headers_of_an_impossible_kind_or_size_are_refused():
    image = bytearray(efi_image({".text": b"code"}))
    for offset, value in ((64 + 24, b"\x07\x01"), (64 + 24 + 60, b"\xff\xff\xff\x7f")):
        broken = image.copy()
        broken[offset : offset + len(value)] = value
        with pytest.raises(FormatError):
            image_digests(bytes(broken), "sha256")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_input_does_more_than_be_refused(noise, place):
    image = efi_image({".text": b"code" * 32, ".linux": b"x"})
    data = image[:place] + noise + image[place + len(noise) :]
    try:
        parse_image(data)
        image_digests(data, "sha256")
    except FormatError as error:
        assert error.code == "image-invalid"
    assert struct.calcsize("<8sIIIIIIHHI") == 40
