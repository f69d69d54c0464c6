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
"""What the agent says to the backend, and the backend's answers as typed, checked records."""

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oat_trusted_filter.agent.errors import AnswerError
from oat_trusted_filter.agent.evidence import BootLogFile, SignedPcrs
from oat_trusted_filter.agent.ima_log import ImaLogPart
from oat_trusted_filter.client.http import AttestationClient
from oat_trusted_filter.tcg.nv import TAG_INDEX

#: Seconds between rounds the backend may ask for; anything else is a slip and is cut to this.
SHORTEST_INTERVAL = 0.1
LONGEST_INTERVAL = 3600.0

LEVELS = frozenset({"trusted", "untrusted", "unknown"})


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge of the backend and what has to be quoted for it."""

    text: str
    pcrs: tuple[int, ...]
    nonce: bytes
    """What goes into the quote: SHA-256 of the challenge."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the backend thinks of the evidence."""

    level: str
    findings: tuple[tuple[str, str], ...]
    """Code and sentence of each finding."""
    interval: float | None
    """Seconds until the backend wants evidence again."""
    ima_offset: int | None = None
    """Where the next part of the IMA log has to begin; None: it is not wanted."""
    tag_contents: bytes | None = None
    """What the NV index for tags has to hold and does not; None: nothing to do."""


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """Who this host says it is."""

    ek_public: bytes
    ek_certificate: bytes | None
    intermediates: tuple[bytes, ...]
    ak_public: bytes
    banks: tuple[str, ...]
    service_host: str | None = None
    resource_provider: str | None = None
    token: str | None = field(default=None, repr=False)
    """Stands for an operator's approval."""


@dataclass(frozen=True, slots=True)
class EnrolmentChallenge:
    """A secret only the TPM with both keys can open."""

    id: str
    credential_blob: bytes
    encrypted_secret: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The outcome of an enrolment."""

    state: str
    """``pending`` until an operator approves, or ``approved``."""
    ek_fingerprint: str
    token_refused: str = ""
    """Why the enrolment token did not help, if one was sent."""


class BackendApi:
    """The routes of the backend an agent uses.

    Every method raises what the client raises (``BackendUnreachable``, ``BackendRefused``,
    ``BadReply``), and :class:`AnswerError` if the answer is not what the interface says.
    """

    def __init__(self, client: AttestationClient, region: str, host: str) -> None:
        self._client = client
        self._identity = {"region": region, "host": host}

    def close(self) -> None:
        """Close idle connections; the next request opens a new one."""
        self._client.close()

    def challenge(self) -> Challenge:
        """Ask for a challenge."""
        answer = self._post("/v1/challenges", dict(self._identity))
        text = _string(answer, "challenge")
        pcrs = answer.get("pcrs")
        if (
            not isinstance(pcrs, list)
            or not pcrs
            or not all(type(pcr) is int and 0 <= pcr < 24 for pcr in pcrs)
        ):
            raise AnswerError(f"the backend asks for PCRs {pcrs!r}")
        return Challenge(text, tuple(sorted(set(pcrs))), hashlib.sha256(_url_b64(text)).digest())

    def submit(
        self,
        challenge: Challenge,
        signed: SignedPcrs,
        boot_log: BootLogFile,
        ima: ImaLogPart | None = None,
        *,
        with_log: bool,
    ) -> Judgement:
        """Hand in evidence.

        :param ima: a part of the IMA log; None: there is no such log.
        :param with_log: send the boot log itself and not only its digest.
        """
        answer = self._post(
            "/v1/evidence",
            {
                **self._identity,
                "challenge": challenge.text,
                "quote": _b64(signed.quote),
                "signature": _b64(signed.signature),
                "pcrs": {
                    bank: {str(pcr): value.hex() for pcr, value in sorted(values.items())}
                    for bank, values in signed.pcrs.items()
                },
                "boot_log": {
                    "digest": boot_log.digest,
                    "data": _b64(boot_log.data) if with_log else None,
                },
                **_ima_log(ima),
                **_tags(signed.tags),
            },
        )
        level = _string(answer, "level")
        if level not in LEVELS:
            raise AnswerError(f"the backend says level {level!r}")
        return Judgement(
            level,
            _findings(answer.get("findings")),
            _interval(answer),
            ima_offset(answer),
            _tag_contents(answer),
        )

    def enrol(self, request: EnrolmentRequest) -> EnrolmentChallenge:
        """Begin an enrolment."""
        answer = self._post(
            "/v1/enrolments",
            {
                **self._identity,
                **_set_ones(
                    service_host=request.service_host,
                    resource_provider=request.resource_provider,
                    token=request.token,
                ),
                "ek_public": _b64(request.ek_public),
                "ek_certificate": _b64(request.ek_certificate) if request.ek_certificate else None,
                "intermediates": [_b64(item) for item in request.intermediates],
                "ak_public": _b64(request.ak_public),
                "banks": list(request.banks),
            },
        )
        return EnrolmentChallenge(
            id=_identifier(answer),
            credential_blob=_unb64(answer, "credential_blob"),
            encrypted_secret=_unb64(answer, "encrypted_secret"),
        )

    def activate(self, enrolment: str, secret: bytes) -> Enrolled:
        """Finish an enrolment by showing the secret."""
        answer = self._send("PUT", f"/v1/enrolments/{enrolment}", {"secret": _b64(secret)})
        state = _string(answer, "state")
        if state not in {"pending", "approved"}:
            raise AnswerError(f"the backend says state {state!r}")
        refused = answer.get("token_refused")
        why = str(refused.get("message", "")) if isinstance(refused, Mapping) else ""
        return Enrolled(state, _string(answer, "ek_fingerprint"), why)

    def _post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        _, _, answer = self._client.request(method, path, json=dict(body))
        if not isinstance(answer, Mapping):
            raise AnswerError(f"the backend answered {method} {path} with no JSON object")
        return answer


def ima_offset(answer: Mapping[str, Any]) -> int | None:
    """Where the IMA log is wanted from, in an answer or a refusal; None: it is not.

    :raises AnswerError: not a place in a file.
    """
    value = answer.get("ima_offset")
    if value is not None and (type(value) is not int or not 0 <= value < 2**53):
        raise AnswerError(f"the backend wants the IMA log from {value!r} on")
    return value


def _ima_log(part: ImaLogPart | None) -> dict[str, Any]:
    if part is None:
        return {}
    return {"ima_log": {"offset": part.offset, "data": _b64(part.data), "more": part.more}}


def _tags(certified: tuple[bytes, bytes] | None) -> dict[str, Any]:
    if certified is None:
        return {}
    certification, signature = certified
    return {"tags": {"certification": _b64(certification), "signature": _b64(signature)}}


def _tag_contents(answer: Mapping[str, Any]) -> bytes | None:
    value = answer.get("tag_contents")
    if value is None:
        return None
    try:
        contents = bytes.fromhex(value)
    except (TypeError, ValueError):
        contents = b""
    # It will be written into the TPM.
    if len(contents) != TAG_INDEX.size:
        raise AnswerError(f"the backend wants {value!r} in the NV index for tags")
    return contents


def _set_ones(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _string(answer: Mapping[str, Any], field: str) -> str:
    value = answer.get(field)
    if not isinstance(value, str) or not value:
        raise AnswerError(f"the backend's answer lacks {field!r}")
    return value


def _identifier(answer: Mapping[str, Any]) -> str:
    value = answer.get("id")
    text = str(value) if type(value) in (int, str) else ""
    # It becomes part of a path.
    if not text or not text.replace("-", "").replace("_", "").isalnum() or not text.isascii():
        raise AnswerError(f"the backend gave the enrolment the id {value!r}")
    return text


def _interval(answer: Mapping[str, Any]) -> float | None:
    value = answer.get("interval")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(max(float(value), SHORTEST_INTERVAL), LONGEST_INTERVAL)


def _findings(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        return ()
    return tuple(
        (str(item.get("code", "")), str(item.get("message", "")))
        for item in value
        if isinstance(item, Mapping)
    )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(answer: Mapping[str, Any], field: str) -> bytes:
    try:
        return base64.b64decode(_string(answer, field), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnswerError(f"the backend's {field!r} is not base64") from error


def _url_b64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnswerError("the backend's challenge is not base64url") from error
