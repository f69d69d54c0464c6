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
"""``/v1/enrolments``: a TPM proves that the attestation key lives beside the endorsement key.

``POST`` checks both keys and the certificate, and encrypts a secret that only a TPM with both keys
gives away. ``PUT`` takes the secret back, once. What follows is for :mod:`..store.hosts` to say:
the same key under the same name renews its record, any other one waits for an operator, unless a
token of :mod:`..store.enrolment_tokens` stands for him.
"""

import datetime
import hashlib
import secrets
from typing import Annotated, Any

import falcon
import msgspec
from oslo_log import log as logging
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.exchange import answer, decoded, read_body
from oat_trusted_filter.backend.api.fields import (
    BankName,
    Certificate,
    HostName,
    Region,
    ResourceProvider,
    SmallBlob,
    binary,
    printable,
)
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.enrolment.certificate import (
    CertificateRefused,
    EkCertificate,
    check_certifies,
    verify_ek_certificate,
)
from oat_trusted_filter.backend.enrolment.credential import (
    SECRET_BYTES,
    ActivationFailed,
    check_endorsement_key,
    check_secret,
    ek_fingerprint,
    ek_hash,
    make_credential,
)
from oat_trusted_filter.backend.store import activations, enrolment_tokens, hosts
from oat_trusted_filter.backend.store.activations import Activation
from oat_trusted_filter.backend.store.enrolment_tokens import Refusal
from oat_trusted_filter.backend.store.hosts import Candidate, Host
from oat_trusted_filter.tcg.public import PublicArea, check_attestation_key, parse_public

LOG = logging.getLogger(__name__)

#: Milliseconds a TPM has to open the credential; slow ones take a second or two.
ACTIVATION_LIFETIME_MS = 60_000
#: The bank every TPM of a PC has ("TCG PC Client Platform TPM Profile"). A host that could leave it
#: out of the list could have banks compared instead that its firmware never filled.
NEEDED_BANK = "sha256"
_MOST_INTERMEDIATES = 16
_ID_BYTES = 24
_MANUFACTURER_LONGEST = 64


class EnrolmentBody(msgspec.Struct):
    """Who a host says it is."""

    host: HostName
    ek_public: SmallBlob
    ak_public: SmallBlob
    banks: list[BankName]
    region: Region = ""
    service_host: HostName | None = None
    resource_provider: ResourceProvider | None = None
    ek_certificate: Certificate | None = None
    intermediates: list[Certificate] = []
    token: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    """An operator's word for this host, given beforehand."""


class SecretBody(msgspec.Struct):
    """What the TPM gave away."""

    secret: SmallBlob


def create(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Begin an enrolment."""
    body = decoded(read_body(req), EnrolmentBody)
    _check_banks(body.banks)
    ek_public = binary(body.ek_public, "ek_public")
    ak_public = binary(body.ak_public, "ak_public")
    endorsement, attestation = parse_public(ek_public), parse_public(ak_public)
    check_endorsement_key(endorsement)
    check_attestation_key(attestation)
    now = service.clock()
    certificate = _certificate(service, body, endorsement, now)
    candidate = Candidate(
        region=body.region,
        host=body.host,
        ek_fingerprint=ek_fingerprint(endorsement),
        ek_hash=ek_hash(endorsement),
        ak_public=ak_public,
        banks=tuple(body.banks),
        software_tpm=None if certificate is None else certificate.software,
        ek_certificate_status=_status(certificate, now),
        manufacturer=None if certificate is None else _manufacturer(certificate),
        service_host=body.service_host,
        resource_provider=body.resource_provider,
        token=None if body.token is None else enrolment_tokens.digest_of(body.token),
    )
    secret = secrets.token_bytes(SECRET_BYTES)
    blob, encrypted = make_credential(ek_public, attestation.name, secret)
    number = secrets.token_hex(_ID_BYTES)
    activation = Activation(
        id=number,
        secret_digest=hashlib.sha256(secret).hexdigest(),
        expires_at=now + ACTIVATION_LIFETIME_MS,
        candidate=msgspec.json.encode(candidate).decode(),
    )
    service.store.write(lambda connection: activations.add(connection, activation, now))
    answer(resp, {"id": number, "credential_blob": blob, "encrypted_secret": encrypted}, 201)


def activate(service: Service, req: falcon.Request, resp: falcon.Response, number: str) -> None:
    """Finish an enrolment; there is one attempt."""
    body = decoded(read_body(req), SecretBody)
    now = service.clock()
    with service.store.read() as connection:
        activations.check(connection, number)
    # In a transaction of its own: a wrong secret must not bring the record back.
    activation = service.store.write(
        lambda connection: activations.take(connection, number, now)
    )  # fmt: skip
    candidate = msgspec.json.decode(activation.candidate, type=Candidate)
    try:
        check_secret(bytes.fromhex(activation.secret_digest), binary(body.secret, "secret"))
    except ActivationFailed as error:
        LOG.warning("enrolment of host %s failed: %s", candidate.host, error)
        raise Problem(error.code, str(error)) from error
    host, refusal = service.store.write(lambda connection: _enrol(connection, candidate, now))
    LOG.info(
        "host %s%s enrolled with endorsement key %s: %s%s", host.host,
        f" in region {host.region}" if host.region else "", host.ek_fingerprint, host.state,
        f" ({refusal.message})" if refusal else "",
    )  # fmt: skip
    document: dict[str, Any] = {"state": host.state, "ek_fingerprint": host.ek_fingerprint}
    if refusal is not None:
        document["token_refused"] = refusal._asdict()
    answer(resp, document)


def _enrol(
    connection: Connection, candidate: Candidate, now: int
) -> tuple[Host, Refusal | None]:
    """Record what has proven itself; a token that is good stands for an operator's approval.

    One that is not costs nothing: the host waits as it would without.
    """
    host = hosts.enrol(connection, candidate, now)
    if host.state != hosts.PENDING or candidate.token is None:
        return host, None
    redeemed = enrolment_tokens.redeem(connection, candidate.token, host, now)
    if isinstance(redeemed, Refusal):
        return host, redeemed
    host = hosts.approve(connection, host)
    details = {"enrolment_token": redeemed.id}
    hosts.audit_act(connection, redeemed.created_by, "host.approve", host, details)
    return host, None


def _check_banks(banks: list[str]) -> None:
    if len(set(banks)) != len(banks) or NEEDED_BANK not in banks:
        raise Problem(
            "banks-invalid",
            f"banks names every PCR bank the TPM implements once, {NEEDED_BANK} among them",
        )


def _certificate(
    service: Service, body: EnrolmentBody, endorsement: PublicArea, now: int
) -> EkCertificate | None:
    """What the maker of the TPM says; None if there is no certificate."""
    if body.ek_certificate is None:
        return None
    if len(body.intermediates) > _MOST_INTERMEDIATES:
        raise Problem("field-invalid", f"more than {_MOST_INTERMEDIATES} intermediates")
    try:
        certificate = verify_ek_certificate(
            binary(body.ek_certificate, "ek_certificate"),
            [binary(item, "intermediates") for item in body.intermediates],
            service.ek_authorities,
            _moment(now),
            allow_software_tpm=service.settings.allow_software_tpm,
            allow_expired=_may_have_expired(service, body, endorsement),
            check_revocation=service.revocation_lists.check,
        )
        check_certifies(certificate, endorsement)
    except CertificateRefused as error:
        LOG.info("enrolment of host %s refused: %s (%s)", body.host, printable(error), error.code)
        advice = ""
        if error.code == "ek-certificate-expired":
            advice = (
                f"; an operator may accept it: oat host register {body.host} --accept-expired "
                f"--ek-fingerprint {ek_fingerprint(endorsement)}"
            )
        raise Problem(error.code, f"{error}{advice}", status=403) from error
    return certificate


def _may_have_expired(service: Service, body: EnrolmentBody, endorsement: PublicArea) -> bool:
    """Whether an operator has accepted this key already, whatever the date.

    A certificate says who made a TPM. That stays true after its end, so a host that is approved
    keeps what it has when its TPM is cleared and it enrols again.
    """
    with service.store.read() as connection:
        known = hosts.named(connection, body.region, body.host)
    host = hosts.same_key(known, ek_fingerprint(endorsement), ek_hash(endorsement))
    return host is not None and (host.state == hosts.APPROVED or bool(host.accept_expired))


def _status(certificate: EkCertificate | None, now: int) -> str:
    if certificate is None:
        return hosts.ABSENT
    return hosts.VERIFIED if _moment(now) <= certificate.expires_at else hosts.EXPIRED


def _moment(now: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)


def _manufacturer(certificate: EkCertificate) -> str:
    text = f"{certificate.manufacturer} {certificate.model}".strip()
    return printable(text)[:_MANUFACTURER_LONGEST]
