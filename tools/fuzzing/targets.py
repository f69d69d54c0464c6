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
"""The parsers strangers and operators can reach: how each is driven, and what it may answer."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from oat_trusted_filter.backend.appraisal import policy, reference
from oat_trusted_filter.backend.appraisal.boot_log import read_boot_log
from oat_trusted_filter.backend.appraisal.document import DocumentError
from oat_trusted_filter.backend.enrolment.certificate import (
    CertificateRefused,
    verify_ek_certificate,
)
from oat_trusted_filter.tcg.algorithms import digest_size
from oat_trusted_filter.tcg.attestation import parse_nv_certification, parse_quote
from oat_trusted_filter.tcg.authenticode import image_digests
from oat_trusted_filter.tcg.errors import FormatError, SignatureError
from oat_trusted_filter.tcg.events import describe_event
from oat_trusted_filter.tcg.file_signature import parse_file_signature
from oat_trusted_filter.tcg.ima import ImaReplay, parse_ima_log
from oat_trusted_filter.tcg.nv import tag_contents
from oat_trusted_filter.tcg.public import check_attestation_key, parse_public, verify_signature
from oat_trusted_filter.tcg.signature import TPM_ALG_RSAPSS, parse_signature
from oat_trusted_filter.tcg.signature_database import parse_signature_database
from tests.lab.boots import BOOTS, BOOTS_DIR, DERIVED_BOOTS, Boot
from tests.lab.images import efi_image
from tests.lab.measuring import Kernel
from tests.lab.quotes import SigningKey, certify, quote, select
from tests.unit.enrolment import test_certificate as certificates

_BANKS = ("sha1", "sha256", "sha384")


@dataclass(frozen=True)
class Target:
    """A parser.

    :param run: gives it these bytes.
    :param seeds: bytes it takes, to begin with.
    :param refusals: what it may raise; anything else is a fault.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    refusals: tuple[type[Exception], ...] = (FormatError,)


@functools.cache
def _keys() -> tuple[SigningKey, ...]:
    return (
        SigningKey.ecc(),
        SigningKey.ecc(4, "sha384"),
        SigningKey.rsa(),
        SigningKey.rsa(2048, TPM_ALG_RSAPSS),
    )


@functools.cache
def _signed() -> tuple[tuple[bytes, bytes], ...]:
    selections = select((*_BANKS, "sha512"), _BANKS, range(16))
    pcrs = Boot("machine-a").pcrs
    return tuple(quote(key, bytes(32), pcrs, selections) for key in _keys())


def _quote(data: bytes) -> None:
    for selection in parse_quote(data).selections:
        _ = selection.bank, selection.pcrs


def _certifications() -> list[bytes]:
    return [certify(_keys()[0], bytes(32), tag_contents(7, bytes(32)))[0]]


def _signature(data: bytes) -> None:
    signature = parse_signature(data)
    for key, (message, _) in zip(_keys(), _signed(), strict=True):
        try:
            verify_signature(parse_public(key.public), message, signature)
        except SignatureError:
            continue


def _public(data: bytes) -> None:
    public = parse_public(data)
    _ = public.name
    check_attestation_key(public)
    for message, signature in _signed():
        try:
            verify_signature(public, message, parse_signature(signature))
        except SignatureError:
            continue


def _boot_log(data: bytes) -> None:
    for event in read_boot_log(data).log.events:
        describe_event(event)


def _boot_logs() -> list[bytes]:
    return [Boot(name).boot_log for name in (*BOOTS, *DERIVED_BOOTS)]


def _ima_log(data: bytes) -> None:
    values = {bank: bytes(digest_size(bank)) for bank in _BANKS}
    replay = ImaReplay(values, frozenset({"sha384"}), {"sha256": bytes(32)})
    for number, entry in enumerate(parse_ima_log(data)):
        replay.extend(entry, number)


def _ima_logs() -> list[bytes]:
    kernel = Kernel()
    kernel.kexec()
    legacy = b"\x0a\0\0\0" + bytes(20) + b"\3\0\0\0ima" + bytes(20) + b"\4\0\0\0/etc"
    return [*(Boot(name).ima_log for name in BOOTS), bytes(kernel.log), legacy]


@functools.cache
def _authority() -> certificates.Authority:
    return certificates.authority("fuzz")


def _ek_certificate(data: bytes) -> None:
    verify_ek_certificate(
        data, (data,), (_authority().der,), certificates.NOW, allow_software_tpm=True
    )


def _ek_certificates() -> list[bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    return [certificates.ek_certificate(_authority(), key), _authority().der]


def _document(read: Callable[[object], object]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return
        read(document)

    return run


def _policies() -> list[bytes]:
    full = {
        **policy.to_document(policy.DEFAULT_POLICY),
        "kernel_command_line": "root=UUID=.* ro",
        "certificates": {"db": ["ab" * 32]},
        "dbx_minimum": ["cd" * 32],
        "images": ["boot-loader"],
        "ima": {"mode": "enforce", "exclude": ["/var/.*"], "keys": []},
        "tags": {"require": {"zone": ["eu-1"]}, "nvram": "required"},
    }
    return [json.dumps(full).encode()]


def _references() -> list[bytes]:
    pcrs = {"sha256": {"0": ["00" * 32], "7": "11" * 32}}
    documents = [
        {"name": "a", "kind": "firmware", "pcrs": pcrs, "valid_until": "2027-01-01T00:00:00Z"},
        {"name": "b", "images": {"sha256": ["22" * 32]}},
        {"name": "c", "kind": "ima", "files": {"sha256:" + "33" * 32: ["/bin/true"]}},
    ]
    return [json.dumps(document).encode() for document in documents]


def _file_signatures() -> list[bytes]:
    folder = BOOTS_DIR.parent / "ima"
    return [path.read_bytes() for path in sorted(folder.glob("*.sig"))]


def _databases() -> list[bytes]:
    facts = read_boot_log(Boot("machine-a").boot_log)
    return [
        facts.log.events[fact.event].data[32 + 2 * len(name) :]
        for name, fact in facts.facts.databases.items()
    ]


def _images() -> list[bytes]:
    sections = {".text": b"code" * 16, ".linux": b"kernel"}
    return [efi_image(sections, plus=plus, signature=b"s" * 72) for plus in (False, True)]


TARGETS = {
    "quote": Target(_quote, lambda: [message for message, _ in _signed()]),
    "certification": Target(parse_nv_certification, _certifications),
    "signature": Target(_signature, lambda: [signature for _, signature in _signed()]),
    "public": Target(_public, lambda: [key.public for key in _keys()]),
    "boot-log": Target(_boot_log, _boot_logs),
    "signature-database": Target(parse_signature_database, _databases),
    "ima-log": Target(_ima_log, _ima_logs),
    "file-signature": Target(parse_file_signature, _file_signatures),
    "ek-certificate": Target(_ek_certificate, _ek_certificates, (CertificateRefused,)),
    "efi-image": Target(lambda data: image_digests(data, "sha256"), _images),
    "policy": Target(_document(policy.from_document), _policies, (DocumentError,)),
    "reference-set": Target(_document(reference.from_document), _references, (DocumentError,)),
}
