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
"""What an event of the boot log says: its type, its text, and whether its data is under its digest.

Source: TCG PC Client Platform Firmware Profile (PFP) 1.06, section 10.4.1 "Event Types" and the
sections named below; UEFI Specification 2.10, section 10.3 for device paths; for EV_IPL the sources
of GRUB (grub-core/commands/tpm.c) and systemd (src/boot/measure.c, "TPM2 PCR Measurements Made by
systemd").
"""

import struct
import uuid
from collections.abc import Callable, Iterable, Iterator

from oat_trusted_filter.tcg.algorithms import DIGESTERS
from oat_trusted_filter.tcg.bootlog import Event
from oat_trusted_filter.tcg.errors import FormatError

EV_POST_CODE = 0x00000001
EV_NO_ACTION = 0x00000003
EV_SEPARATOR = 0x00000004
EV_ACTION = 0x00000005
EV_EVENT_TAG = 0x00000006
EV_S_CRTM_VERSION = 0x00000008
EV_IPL = 0x0000000D
EV_OMIT_BOOT_DEVICE_EVENTS = 0x00000012
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_VARIABLE_BOOT = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
EV_EFI_GPT_EVENT = 0x80000006
EV_EFI_ACTION = 0x80000007
EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
EV_EFI_VARIABLE_BOOT2 = 0x8000000C
EV_EFI_HCRTM_EVENT = 0x80000010
EV_EFI_VARIABLE_AUTHORITY = 0x800000E0

_NAMES = {
    0x00000000: "EV_PREBOOT_CERT",
    EV_POST_CODE: "EV_POST_CODE",
    0x00000002: "EV_UNUSED",
    EV_NO_ACTION: "EV_NO_ACTION",
    EV_SEPARATOR: "EV_SEPARATOR",
    EV_ACTION: "EV_ACTION",
    EV_EVENT_TAG: "EV_EVENT_TAG",
    0x00000007: "EV_S_CRTM_CONTENTS",
    EV_S_CRTM_VERSION: "EV_S_CRTM_VERSION",
    0x00000009: "EV_CPU_MICROCODE",
    0x0000000A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0000000B: "EV_TABLE_OF_DEVICES",
    0x0000000C: "EV_COMPACT_HASH",
    EV_IPL: "EV_IPL",
    0x0000000E: "EV_IPL_PARTITION_DATA",
    0x0000000F: "EV_NONHOST_CODE",
    0x00000010: "EV_NONHOST_CONFIG",
    0x00000011: "EV_NONHOST_INFO",
    EV_OMIT_BOOT_DEVICE_EVENTS: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x00000013: "EV_POST_CODE2",
    EV_EFI_VARIABLE_DRIVER_CONFIG: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    EV_EFI_VARIABLE_BOOT: "EV_EFI_VARIABLE_BOOT",
    EV_EFI_BOOT_SERVICES_APPLICATION: "EV_EFI_BOOT_SERVICES_APPLICATION",
    EV_EFI_BOOT_SERVICES_DRIVER: "EV_EFI_BOOT_SERVICES_DRIVER",
    EV_EFI_RUNTIME_SERVICES_DRIVER: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    EV_EFI_GPT_EVENT: "EV_EFI_GPT_EVENT",
    EV_EFI_ACTION: "EV_EFI_ACTION",
    EV_EFI_PLATFORM_FIRMWARE_BLOB: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    EV_EFI_PLATFORM_FIRMWARE_BLOB2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    EV_EFI_VARIABLE_BOOT2: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    EV_EFI_HCRTM_EVENT: "EV_EFI_HCRTM_EVENT",
    EV_EFI_VARIABLE_AUTHORITY: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
}
_IMAGES = frozenset(
    {
        EV_EFI_BOOT_SERVICES_APPLICATION,
        EV_EFI_BOOT_SERVICES_DRIVER,
        EV_EFI_RUNTIME_SERVICES_DRIVER,
    }
)
_VARIABLES = frozenset(
    {
        EV_EFI_VARIABLE_DRIVER_CONFIG,
        EV_EFI_VARIABLE_BOOT,
        EV_EFI_VARIABLE_BOOT2,
        EV_EFI_VARIABLE_AUTHORITY,
    }
)
_TEXTS = frozenset({EV_POST_CODE, EV_ACTION, EV_EFI_ACTION, EV_IPL, EV_OMIT_BOOT_DEVICE_EVENTS})

#: GRUB extends PCR 8 with a command and writes it behind one of these into the log.
GRUB_PREFIXES = (b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ")
GRUB_PCR = 8
#: systemd-stub extends PCR 12 with the command line it was started with and writes it as it is.
STUB_PCR = 12
# Parts of the kernel image, command line and credentials, extensions: with their names in UTF-16.
_STUB_PCRS = range(11, 14)

_IMAGE_HEAD = struct.Struct("<QQQQ")
_VARIABLE_HEAD = struct.Struct("<16sQQ")
_NODE = struct.Struct("<BBH")
_MEDIA_DEVICE_PATH = 4
_FILE_PATH = 4
_VENDOR_PATH = 3
_FIRMWARE_FILE = 6
_END_OF_PATH = 0x7F
_LONGEST_TEXT = 200
# The longest path of a disk behind bridges has a dozen.
_MAX_NODES = 64


def event_type_name(kind: int) -> str:
    """``EV_SEPARATOR`` and so on; the number in hexadecimal for a type without a name."""
    return _NAMES.get(kind) or f"{kind:#010x}"


def check_event_data(event: Event) -> bool:
    """Check that the data of an event is what its digests were made from, where that is defined.

    The digests are what the TPM was told, the data is only written beside them. The type is not
    under the digest either, so nothing may be trusted more because of a type (D1).

    :returns: whether the digests vouch for the data; False for types where they are made from
        something else, the file that was loaded for instance.
    :raises FormatError: ``boot-log-event-data``, they should and do not.
    """
    candidates = _digested(event)
    if candidates is None:
        return False
    left = list(event.digests.items())
    for data in candidates:
        others = []
        for bank, digest in left:
            if DIGESTERS[bank](data) != digest:
                others.append((bank, digest))
        if not others:
            return True
        left = others
    raise FormatError(
        "boot-log-event-data",
        f"event {event.number} {event_type_name(event.type)} of PCR {event.pcr}: its data does not "
        f"have the {left[0][0]} digest that was measured",
    )


def _measured(event: Event, data: bytes) -> bool:
    """Whether the digests of all banks were made from these bytes."""
    return all(DIGESTERS[bank](data) == digest for bank, digest in event.digests.items())


def _digested(event: Event) -> Iterable[bytes] | None:
    """The bytes the digests may have been made from, None if the log does not hold them."""
    rule = _RULES.get(event.type)
    return None if rule is None else rule(event)


def _whole(event: Event) -> tuple[bytes, ...]:
    return (event.data,)


def _text(event: Event) -> tuple[bytes, ...]:
    # The final NUL of a string is written by some firmware and not measured (PFP 10.4.1).
    stripped = event.data.rstrip(b"\0")
    return (event.data,) if stripped == event.data else (event.data, stripped)


def _boot_variable(event: Event) -> Iterator[bytes]:
    """PFP 10.4.1, EV_EFI_VARIABLE_BOOT: firmware before 1.05 measures the value alone."""
    yield event.data
    try:
        _, value = variable(event)
    except FormatError:
        return
    yield value


def _ipl(event: Event) -> tuple[bytes, ...] | None:
    if event.pcr == STUB_PCR:
        # What systemd-stub loads (credentials) goes into the same PCR, with only a name in the log.
        return (event.data,) if _measured(event, event.data) else None
    command = grub_command(event)
    return None if command is None else (command,)


_RULES: dict[int, Callable[[Event], Iterable[bytes] | None]] = {
    EV_SEPARATOR: _whole,
    EV_S_CRTM_VERSION: _whole,
    EV_EFI_GPT_EVENT: _whole,
    EV_EFI_VARIABLE_DRIVER_CONFIG: _whole,
    EV_EFI_VARIABLE_AUTHORITY: _whole,
    EV_EFI_VARIABLE_BOOT2: _whole,
    EV_EFI_VARIABLE_BOOT: _boot_variable,
    EV_ACTION: _text,
    EV_EFI_ACTION: _text,
    EV_OMIT_BOOT_DEVICE_EVENTS: _text,
    EV_IPL: _ipl,
}


def grub_command(event: Event) -> bytes | None:
    """The string GRUB extended PCR 8 with, None if the event is not one of those.

    The prefix that says what kind of string it is, is not under the digest.
    """
    if event.type != EV_IPL or event.pcr != GRUB_PCR:
        return None
    for prefix in GRUB_PREFIXES:
        if event.data.startswith(prefix):
            return event.data[len(prefix) :].removesuffix(b"\0")
    return None


def variable(event: Event) -> tuple[str, bytes]:
    """Name and value of UEFI_VARIABLE_DATA (PFP 10.2.6).

    :raises FormatError: ``boot-log-event-data``, the event is malformed.
    """
    try:
        _, name_length, value_length = _VARIABLE_HEAD.unpack_from(event.data, 0)
    except struct.error:
        raise _malformed(event, "a UEFI variable") from None
    split = _VARIABLE_HEAD.size + 2 * name_length
    if split + value_length != len(event.data):
        raise _malformed(event, "a UEFI variable")
    try:
        name = event.data[_VARIABLE_HEAD.size : split].decode("utf-16-le")
    except UnicodeDecodeError:
        raise _malformed(event, "a UEFI variable") from None
    return name, event.data[split:]


def image_path(event: Event) -> str:
    """The device path of a loaded image (PFP 10.2.3 UEFI_IMAGE_LOAD_EVENT), as far as it is a name.

    :returns: ``\\EFI\\debian\\grubx64.efi``, ``FvFile(GUID)``, or an empty string; printable and
        bounded like :func:`describe_event`.
    """
    try:
        _, _, _, length = _IMAGE_HEAD.unpack_from(event.data, 0)
        path = event.data[_IMAGE_HEAD.size : _IMAGE_HEAD.size + length]
        return _printable("".join(_node_texts(path)))
    except (struct.error, UnicodeDecodeError, ValueError):
        return ""


def _node_texts(path: bytes) -> Iterator[str]:
    """The texts of the nodes that name a file."""
    offset = 0
    for _ in range(_MAX_NODES):
        if offset + _NODE.size > len(path):
            return
        kind, subtype, length = _NODE.unpack_from(path, offset)
        if length < _NODE.size or kind == _END_OF_PATH:
            return
        body = path[offset + _NODE.size : offset + length]
        if (kind, subtype) == (_MEDIA_DEVICE_PATH, _FILE_PATH):
            yield body.decode("utf-16-le").rstrip("\0")
        elif (kind, subtype) == (_MEDIA_DEVICE_PATH, _FIRMWARE_FILE):
            yield f"FvFile({uuid.UUID(bytes_le=body)})"
        elif (kind, subtype) == (_MEDIA_DEVICE_PATH, _VENDOR_PATH):
            yield f"VenMedia({uuid.UUID(bytes_le=body[:16])})"
        offset += length


def describe_event(event: Event) -> str:
    """What the event is about, in printable ASCII and at most 200 characters.

    The data is not under the digest for many types, so this is for people only.
    """
    if event.type in _IMAGES:
        text = image_path(event) or "image without a path"
    elif event.type in _VARIABLES:
        try:
            text, _ = variable(event)
        except FormatError:
            text = "malformed variable"
    elif event.type in _TEXTS:
        encoding = "utf-16-le" if event.pcr in _STUB_PCRS else "utf-8"
        text = event.data.decode(encoding, "replace").rstrip("\0")
    elif event.type == EV_SEPARATOR:
        text = event.data.hex()
    elif event.type == EV_S_CRTM_VERSION:
        text = event.data.decode("utf-16-le", "replace").rstrip("\0")
    else:
        text = ""
    return _printable(text)


def _printable(text: str) -> str:
    """The text with everything a terminal might obey or mix up escaped."""
    escaped = text[:_LONGEST_TEXT].encode("ascii", "backslashreplace").decode("ascii")
    if escaped.isprintable():
        shown = escaped
    else:
        shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in escaped)
    return shown if len(shown) <= _LONGEST_TEXT else shown[: _LONGEST_TEXT - 3] + "..."


def _malformed(event: Event, what: str) -> FormatError:
    return FormatError(
        "boot-log-event-data",
        f"event {event.number} {event_type_name(event.type)} of PCR {event.pcr} does not hold "
        f"{what}",
    )
