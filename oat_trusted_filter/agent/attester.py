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
"""One round: evidence to the backend, enrolment on the way if the backend wants it."""

import logging
from dataclasses import dataclass, replace

from oat_trusted_filter.agent.api import LEVELS, BackendApi, Challenge, Judgement, ima_offset
from oat_trusted_filter.agent.attestation_key import AttestationKeyCache, attestation_key
from oat_trusted_filter.agent.enrolment import enrol, open_tpm
from oat_trusted_filter.agent.errors import TpmError
from oat_trusted_filter.agent.evidence import (
    BOOT_LOG_LARGEST,
    BootLogFile,
    SignedPcrs,
    read_boot_log,
    sign_pcrs,
)
from oat_trusted_filter.agent.ima_log import read_ima_log
from oat_trusted_filter.agent.settings import Settings
from oat_trusted_filter.agent.tags import certify_tags, write_tags
from oat_trusted_filter.client.http import BackendRefused
from oat_trusted_filter.tcg.ima import MAX_PART_BYTES

LOG = logging.getLogger(__name__)

#: What the backend says if it has no record of this host, or one from before TPM2_Clear.
_ENROL = frozenset({"host-unknown", "tpm-cleared"})
#: What it says if the record is for another attestation key, say of the other algorithm.
_OTHER_KEY = frozenset({"signature-invalid", "signature-scheme"})


#: Submissions of one quote: without the boot log, with it, and with the part of the IMA log that is
#: wanted; one more if another process of this host came in between.
_SUBMISSIONS = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round ended, if the backend had a word on this host."""

    level: str
    """``trusted``, ``untrusted`` or ``unknown``."""
    code: str = ""
    """Of the first finding, or of the reason why there is no verdict yet."""
    message: str = ""
    more: int = 0
    """Number of further findings."""
    interval: float | None = None
    """Seconds the backend wants until the next round; None: it did not say."""

    def __str__(self) -> str:
        if not self.code:
            return self.level
        # One line, whatever the backend wrote.
        reason = " ".join(f"{self.level}: [{self.code}] {self.message}".split())
        return f"{reason} (and {self.more} more)" if self.more else reason


class Attester:
    """Does rounds, and remembers between them what saves work.

    Nothing it remembers is needed: a new one starts from scratch and gets the same answers.
    """

    def __init__(self, settings: Settings, api: BackendApi) -> None:
        self._settings = settings
        self._api = api
        self._key = AttestationKeyCache()
        self._known_log = ""
        self._ima_offset: int | None = None
        self._look_for_tags = True
        self._tried_other_key = False
        self._tried_token: str | None = None

    def round(self) -> Outcome:
        """Attest once.

        :raises AgentError: something is wrong on this host.
        :raises ClientError: the backend refused or cannot be reached.
        """
        try:
            return self._round(read_boot_log(self._settings.boot_log))
        finally:
            # Until the next round the backend need not hold a connection for each host.
            self._api.close()

    def _round(self, boot_log: BootLogFile) -> Outcome:
        try:
            return self._attest(boot_log)
        except BackendRefused as refusal:
            token = self._settings.enrolment_token()
            # A host that waits need not wait any longer if it has been given a token.
            fresh = token is not None and token != self._tried_token
            if not (refusal.code == "host-pending" and fresh):
                outcome = _judged_by_refusal(refusal)
                if outcome is not None:
                    return outcome
                if not self._enrolment_helps(refusal):
                    raise
            LOG.debug("enrolling, for the backend says %s", refusal.code)
        enrolled = enrol(self._settings, self._api, self._key, token)
        self._tried_token = token
        fingerprint = enrolled.outcome.ek_fingerprint
        LOG.info(
            "enrolled %s with the %s endorsement key %s (%s certificate): %s",
            self._settings.host,
            enrolled.ek_kind,
            fingerprint,
            "with" if enrolled.certified else "without",
            enrolled.outcome.state,
        )
        if enrolled.outcome.token_refused:
            LOG.warning("%s", " ".join(enrolled.outcome.token_refused.split()))
        if enrolled.outcome.state == "pending":
            return Outcome(
                "unknown",
                "host-pending",
                f"the host waits for an operator to approve endorsement key {fingerprint}",
            )
        return self._attest(boot_log)

    def _enrolment_helps(self, refusal: BackendRefused) -> bool:
        if refusal.code in _ENROL:
            return True
        # Once: if the backend still does not take this key, asking every round would not help.
        if refusal.code in _OTHER_KEY and not self._tried_other_key:
            self._tried_other_key = True
            return True
        return False

    def _attest(self, boot_log: BootLogFile) -> Outcome:
        judgement = self._judgement(boot_log)
        if judgement.tag_contents is not None and self._wrote(judgement.tag_contents):
            judgement = self._judgement(boot_log)
        return _outcome(judgement)

    def _judgement(self, boot_log: BootLogFile) -> Judgement:
        settings = self._settings
        challenge = self._api.challenge()
        with (
            open_tpm(settings) as tpm,
            attestation_key(tpm, settings.ak_algorithm, self._key) as key,
        ):
            signed = sign_pcrs(tpm, key, challenge.pcrs, challenge.nonce)
            if self._look_for_tags:
                tags = certify_tags(tpm, key, challenge.nonce)
                self._look_for_tags = tags is not None
                signed = replace(signed, tags=tags)
        # The TPM is free again: what follows waits for the network.
        judgement = self._submit(challenge, signed, boot_log)
        self._tried_other_key = False
        return judgement

    def _wrote(self, tag_contents: bytes) -> bool:
        """Whether the tags could be written into the TPM; the log says why not."""
        self._look_for_tags = True
        try:
            with open_tpm(self._settings) as tpm:
                write_tags(tpm, tag_contents)
        except TpmError as error:
            LOG.warning("the tags of this host are not in its TPM: [%s] %s", error.code, error)
            return False
        LOG.info("the tags of this host were written into its TPM")
        return True

    def _submit(
        self, challenge: Challenge, signed: SignedPcrs, boot_log: BootLogFile
    ) -> Judgement:
        """Hand in what was signed, with the logs the backend wants.

        What it has is not known before it says so, and the challenge is not spent by an answer
        that is no verdict. The IMA log is read after the quote: what was measured in between is
        at its end, and the backend sees where the quote stands.
        """
        with_log = boot_log.digest != self._known_log
        offset = self._ima_offset
        submissions = 0
        while True:
            submissions += 1
            # Both logs have to fit into one request.
            room = BOOT_LOG_LARGEST - len(boot_log.data) if with_log else MAX_PART_BYTES
            ima = read_ima_log(self._settings.ima_log, offset, min(room, MAX_PART_BYTES))
            try:
                judgement = self._api.submit(challenge, signed, boot_log, ima, with_log=with_log)
            except BackendRefused as refusal:
                self._known_log, self._ima_offset = "", None
                if submissions == _SUBMISSIONS:
                    raise
                if refusal.code == "boot-log-needed" and not with_log:
                    with_log = True
                elif refusal.code == "ima-offset" and ima is not None:
                    offset = ima_offset(refusal.body)
                else:
                    raise
            else:
                self._known_log, self._ima_offset = boot_log.digest, judgement.ima_offset
                return judgement


def _judged_by_refusal(refusal: BackendRefused) -> Outcome | None:
    """What a refusal says of the host, None if it speaks of the request only."""
    if refusal.code == "host-pending":
        return Outcome("unknown", refusal.code, "the host waits for an operator's approval")
    level = refusal.body.get("level")
    if isinstance(level, str) and level in LEVELS:
        # The quote is this host's own, but what came with it is malformed or does not fit.
        return Outcome(level, refusal.code, refusal.detail)
    return None


def _outcome(judgement: Judgement) -> Outcome:
    code, message = judgement.findings[0] if judgement.findings else ("", "")
    return Outcome(
        level=judgement.level,
        code=code,
        message=message,
        more=max(len(judgement.findings) - 1, 0),
        interval=judgement.interval,
    )
