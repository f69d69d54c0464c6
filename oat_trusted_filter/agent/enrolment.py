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
"""Enrolment: the TPM proves that the attestation key lives beside the certified endorsement key."""

import contextlib
from dataclasses import dataclass

from oat_trusted_filter.agent.api import BackendApi, Enrolled, EnrolmentRequest
from oat_trusted_filter.agent.attestation_key import AttestationKeyCache, attestation_key
from oat_trusted_filter.agent.endorsement import activate, endorsement_key
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.agent.tpm import Tpm


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An enrolment that went through."""

    outcome: Enrolled
    ek_kind: str
    """Algorithm of the endorsement key, for people."""
    certified: bool
    """Whether the TPM has a certificate for it."""


def open_tpm(settings: Settings) -> Tpm:
    """The TPM the settings name, not yet connected."""
    return Tpm(
        settings.tcti,
        endorsement_password=settings.endorsement_password,
        owner_password=settings.owner_password,
    )


def enrol(
    settings: Settings, api: BackendApi, cache: AttestationKeyCache, token: str | None = None
) -> Enrolment:
    """Enrol this host's keys under its name.

    The keys stay loaded while the backend answers: making the endorsement key again would take a
    hardware TPM longer than that.

    :param token: stands for an operator's approval.
    :raises TpmError: the TPM refused.
    :raises ClientError: the backend refused or cannot be reached.
    """
    with contextlib.ExitStack() as stack:
        tpm = stack.enter_context(open_tpm(settings))
        ek = stack.enter_context(
            endorsement_key(tpm, settings.ek_template, settings.ek_certificate)
        )
        ak = stack.enter_context(attestation_key(tpm, settings.ak_algorithm, cache))
        challenge = api.enrol(
            EnrolmentRequest(
                ek_public=ek.public,
                ek_certificate=ek.certificate,
                intermediates=ek.intermediates,
                ak_public=ak.public,
                banks=tpm.banks(),
                service_host=settings.service_host,
                resource_provider=settings.resource_provider,
                token=token,
            )
        )
        secret = activate(tpm, ak.handle, ek, challenge.credential_blob, challenge.encrypted_secret)
    outcome = api.activate(challenge.id, secret)
    return Enrolment(outcome, ek.kind, ek.certificate is not None)
