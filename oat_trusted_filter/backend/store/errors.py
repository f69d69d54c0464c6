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
"""Why something was not stored. Each has a stable ``code``; the service answers with it."""


class Refused(Exception):
    """What was asked for does not fit what is stored."""

    code = "refused"


class NotFound(Refused):
    """There is no such record.

    :param code: ``marker-unknown``, ``host-unknown``, ``reference-set-unknown``,
        ``policy-unknown``, ``report-unknown``, ``enrolment-unknown`` or
        ``enrolment-token-unknown``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NameTaken(Refused):
    """Another endorsement key is approved for the name."""

    code = "host-already-approved"


class KeyTaken(Refused):
    """The endorsement key is approved under another name: two names would be one machine."""

    code = "ek-already-approved"


class ReferenceSetExists(Refused):
    """There is a reference set of this name."""

    code = "reference-set-exists"


class BanksChanged(Refused):
    """An approved host enrols again and claims fewer PCR banks than before."""

    code = "banks-changed"


class CertificateMissing(Refused):
    """A TPM that has shown its certificate once enrols without it."""

    code = "ek-certificate-missing"


class TooManyEnforcers(Refused):
    """Another enforcer reports, and more are known than can be."""

    code = "too-many-enforcers"


class ChallengeSpent(Refused):
    """The challenge has led to a verdict already."""

    code = "challenge-spent"


class BootLogGone(Refused):
    """The boot log that was named is not stored any more."""

    code = "boot-log-needed"


class Overtaken(Exception):
    """Somebody else has written what the decision was based upon; decide again."""
