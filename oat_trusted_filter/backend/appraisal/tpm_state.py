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
"""What the clock and the firmware version of a TPM tell, beyond what refuses evidence.

Both are signed with every quote. A TPM notes its clock down now and then; after a power cut it
cannot know how far it was, says so (``safe``), and may even be behind what it has quoted before.
That is no attack, but nobody shut the machine down either. Source: TPM 2.0 Library, part 1,
sections "Clock" and "TPM2_Shutdown"; part 2, TPMS_CLOCK_INFO.
"""

from collections.abc import Iterator

from oat_trusted_filter.backend.appraisal.records import Finding, PreviousState
from oat_trusted_filter.backend.appraisal.rule_records import Policy
from oat_trusted_filter.tcg.attestation import Quote


def state_after(quote: Quote, previous: PreviousState | None) -> PreviousState:
    """What is known of a TPM after a quote.

    :param previous: before it; None: nothing.
    """
    clock = quote.clock_info
    went_back, firmware_before = False, None
    if previous is not None:
        went_back = clock.clock < previous.clock
        if clock.reset_count == previous.reset_count:
            went_back = previous.went_back
        known = previous.firmware_before
        if known is None:
            known = previous.firmware_version
        firmware_before = None if known == quote.firmware_version else known
    return PreviousState(
        clock=clock.clock,
        reset_count=clock.reset_count,
        restart_count=clock.restart_count,
        firmware_version=quote.firmware_version,
        safe=clock.safe,
        went_back=went_back,
        firmware_before=firmware_before,
    )


def check_tpm(state: PreviousState, policy: Policy) -> Iterator[Finding]:
    """What the policy, or the operator, wants to know of."""
    if state.went_back or not state.safe:
        yield Finding(
            "power-cut",
            "the TPM was not told of the last shutdown, as if the power had been cut: its clock "
            + ("went back" if state.went_back else "is marked as not safe"),
            severity="error" if policy.orderly_shutdown == "required" else "warning",
        )
    if policy.tpm_firmware and state.firmware_version not in policy.tpm_firmware:
        version = firmware_version(state.firmware_version)
        yield Finding(
            "tpm-firmware-unknown",
            f"the TPM has firmware {version}, which the policy does not list",
            actual=version,
            expected=tuple(map(firmware_version, sorted(policy.tpm_firmware))),
        )
    elif state.firmware_before is not None and not policy.tpm_firmware:
        version = firmware_version(state.firmware_version)
        before = firmware_version(state.firmware_before)
        yield Finding(
            "tpm-firmware-changed",
            f"the TPM has firmware {version}, it had {before} when it was first seen",
            actual=version,
            expected=(before,),
            severity="warning",
        )


def firmware_version(number: int) -> str:
    """A version as it is written: what it means is up to the vendor."""
    return f"{number:#018x}"
