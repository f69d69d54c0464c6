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
"""What can go wrong on this host, in words for its operator."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from tpm2_pytss import TPM2_RC, TSS2_Exception

# TSS2_TCTI_RC_LAYER, "TSS 2.0 Overview and Common Structures": errors of the connection itself.
_TCTI_LAYER = 10


class AgentError(Exception):
    """The agent cannot do its work; the text says why and, where it can, what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigurationError(AgentError):
    """An option has a value that cannot work. Code ``configuration``."""

    def __init__(self, message: str) -> None:
        super().__init__("configuration", message)


class BootLogError(AgentError):
    """The boot log cannot be read. Codes ``boot-log-unreadable``, ``boot-log-empty``,
    ``boot-log-too-large``."""


class AnswerError(AgentError):
    """The backend answered something that is not in its interface. Code ``bad-answer``."""

    def __init__(self, message: str) -> None:
        super().__init__("bad-answer", message)


class TpmError(AgentError):
    """The TPM cannot be reached or refused a command.

    Codes: ``tpm-tcti`` (the configuration names no TPM), ``tpm-unreachable``, ``tpm-not-started``,
    ``tpm-authorization`` (password of a hierarchy), ``tpm-memory`` (all slots taken),
    ``tpm-lockout``, ``tpm-no-endorsement-key``, ``tpm-answer`` (not what the specification says),
    ``tpm-nv-taken``, ``tpm-pcrs-moving``, ``tpm-activation``, ``tpm-refused`` (anything else).

    :param rc: response code of the TPM or the stack, if there was one.
    """

    def __init__(self, code: str, message: str, rc: int | None = None) -> None:
        super().__init__(code, message)
        self.rc = rc


def check_tcti(tcti: str) -> None:
    """Refuse a TCTI that cannot name a TPM, before anything is opened.

    The stack opens whatever path it is given for writing and sends it a command: a slip of the pen
    in the configuration of a program that runs as root would destroy the first bytes of a file.

    :raises TpmError: ``tpm-tcti`` or ``tpm-unreachable``.
    """
    name, _, argument = tcti.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise TpmError(
            "tpm-tcti", f"[agent] tcti is {tcti!r}; give for instance device:/dev/tpmrm0"
        )
    if name in {"pcap", "tctildr"} and argument:
        check_tcti(argument)  # these hand on to the one they name
    if not argument or not re.search(r"(^|-)device(\.so|$)", name):
        return
    try:
        mode = os.stat(argument).st_mode
    except OSError as error:
        raise TpmError(
            "tpm-unreachable",
            f"no TPM at [agent] tcti {tcti}: {error.strerror}; "
            "/dev/tpmrm0 is there if firmware and kernel have found a TPM",
        ) from error
    if not stat.S_ISCHR(mode):
        raise TpmError("tpm-tcti", f"[agent] tcti {tcti} names something that is not a device")
    if not os.access(argument, os.R_OK | os.W_OK):
        raise TpmError(
            "tpm-unreachable",
            f"[agent] tcti {tcti}: permission denied; run as root or in the group of the device",
        )


@contextlib.contextmanager
def translated(doing: str, password_option: str | None = None) -> Iterator[None]:
    """Turn an error of the stack into a :class:`TpmError` that says what was being done.

    :param doing: names the step, for people.
    :param password_option: the option to blame if the TPM does not accept the authorization.
    """
    try:
        yield
    except TSS2_Exception as error:
        raise _explained(error, doing, password_option) from error


def _explained(error: TSS2_Exception, doing: str, password_option: str | None) -> TpmError:
    rc = int(error.rc)
    layer = rc >> 16
    plain = int(error.error)
    if layer == _TCTI_LAYER:
        return TpmError(
            "tpm-unreachable", f"{doing}: the connection to the TPM failed: {error}", rc
        )
    if plain in (int(TPM2_RC.BAD_AUTH), int(TPM2_RC.AUTH_FAIL)):
        advice = f"; check [agent] {password_option}" if password_option else ""
        return TpmError("tpm-authorization", f"{doing}: the TPM wants a password{advice}", rc)
    if plain == int(TPM2_RC.INITIALIZE):
        return TpmError("tpm-not-started", f"{doing}: the firmware has not started the TPM", rc)
    if plain in (int(TPM2_RC.OBJECT_MEMORY), int(TPM2_RC.SESSION_MEMORY)):
        return TpmError(
            "tpm-memory",
            f"{doing}: other programs fill the memory of the TPM; use device:/dev/tpmrm0",
            rc,
        )
    if plain == int(TPM2_RC.LOCKOUT):
        return TpmError("tpm-lockout", f"{doing}: the TPM is locked after wrong passwords", rc)
    if plain in (int(TPM2_RC.HIERARCHY), int(TPM2_RC.DISABLED)):
        return TpmError(
            "tpm-refused", f"{doing}: the endorsement hierarchy is switched off in the firmware", rc
        )
    return TpmError("tpm-refused", f"{doing}: {error} ({rc:#x})", rc)
