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
"""What ``tools/record-boot`` records: the machines, the boots, and the script that runs in them.

The identities are the same at every run, so recordings can be compared.
"""

import dataclasses
import uuid

# Any fixed value does; a machine's GUIDs are derived from it and the machine's name.
_NAMESPACE = uuid.UUID("6f1d0a52-3c7e-4d0b-9a53-2f6f7d0f3a11")


@dataclasses.dataclass(frozen=True)
class Machine:
    """What tells one machine from an identical one beside it in the rack."""

    name: str
    mac: str
    serial: str

    def uuid(self, what: str) -> str:
        """The GUID this machine has for ``what``, the same at every run."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.name}/{what}"))

    @property
    def volume(self) -> str:
        """The serial number of the FAT file system, eight hex digits."""
        return self.uuid("esp")[:8].upper()


@dataclasses.dataclass(frozen=True)
class Recording:
    """One boot: a machine, how it is booted and what that is good for."""

    name: str
    machine: Machine
    shows: str
    # ``grub``: firmware, shim, GRUB, kernel. ``direct``: the firmware starts the kernel itself.
    # ``uki``: firmware, systemd-boot, unified kernel image.
    way: str = "grub"
    keys: bool = True
    """Firmware has the keys of Secure Boot, so it is on; never for the other ways."""
    loader: str = "grubx64.efi.signed"
    # Where the loader looks for its configuration; compiled into it.
    loader_config: str = "EFI/debian/grub.cfg"
    loader_commands: str = ""
    extra_command_line: str = ""
    banks: tuple[str, ...] = ("sha1", "sha256", "sha384")
    cards: tuple[str, ...] = ()
    """Further network cards, with their option ROMs."""
    acts: str = ""
    """What the system does before its logs are read."""
    kexec: bool = False
    """It boots the kernel once more with kexec, and then its logs are read."""

    @property
    def secure(self) -> bool:
        """Secure Boot is on."""
        return self.keys and self.way == "grub"

    @property
    def command_line(self) -> str:
        """The kernel command line. IMA's tcb policy passes over tmpfs, hence the ramfs."""
        line = (
            f"root=UUID={self.machine.uuid('root')} ro console=ttyS0 rootfstype=ramfs panic=-1 "
            "ima_policy=tcb intel_iommu=on"
        )
        return f"{line} {self.extra_command_line}".strip()


_A = Machine("machine-a", "52:54:00:0a:00:01", "OAT-LAB-0001")
_B = Machine("machine-b", "52:54:00:0a:00:02", "OAT-LAB-0002")
_C = Machine("machine-c", "52:54:00:0a:00:03", "OAT-LAB-0003")

# What grub-mkconfig writes, in short: each command is measured.
_MENU = "".join(
    [
        "if [ x$feature_menuentry_id = xy ]; then\n"
        "  menuentry_id_option=--id\n"
        "else\n"
        "  menuentry_id_option=\n"
        "fi\n"
        "export menuentry_id_option\n"
        "set menu_color_normal=cyan/blue\n"
        "set menu_color_highlight=white/blue\n",
        *(
            f"menuentry 'Older kernel {number}' {{\n  linux ($root)/boot/old-{number}\n}}\n"
            for number in range(12)
        ),
        *(f"set tuned_{name}=1\nexport tuned_{name}\n" for name in "abcdefghijklmnop"),
    ]
)
# The signatures are evmctl's, see tests/data/ima; "program" is what they are over.
_USE_FILES = """
mount -t tmpfs tmpfs /tmp
cat /etc/ima-policy >$ima/policy
for key in rsa p256; do
  printf program >/tmp/signed-$key
  /bin/recorded sign /tmp/signed-$key /etc/evmctl-$key.sig
done
printf other >/tmp/wrongly-signed
/bin/recorded sign /tmp/wrongly-signed /etc/evmctl-rsa.sig
printf program >/tmp/plain
printf name >"/tmp/with a blank"
cat /tmp/signed-rsa /tmp/signed-p256 /tmp/wrongly-signed /tmp/plain "/tmp/with a blank" >/dev/null
exec 5>>/tmp/written
cat /tmp/written >/dev/null
"""
_MEASURE_MORE = "cat /etc/ima-policy >$ima/policy\n"
#: Of IMA. Unlike the kernel's own "tcb" it passes over procfs, sysfs, securityfs, but not tmpfs.
IMA_POLICY = """dont_measure fsmagic=0x9fa0
dont_measure fsmagic=0x62656572
dont_measure fsmagic=0x73636673
measure func=BPRM_CHECK
measure func=FILE_CHECK mask=MAY_READ uid=0
measure func=KEXEC_CMDLINE
"""

#: The recordings by name.
RECORDINGS = {
    recording.name: recording
    for recording in (
        Recording(
            "machine-a",
            _A,
            "A good machine: firmware, shim, GRUB, kernel, Secure Boot on.",
        ),
        Recording(
            "machine-b",
            _B,
            "A second good machine with the software of machine-a. Its disk GUIDs, MAC, serial "
            "number, root UUID and initrd are its own.",
        ),
        Recording(
            "machine-a-cmdline",
            _A,
            "machine-a booted with another kernel command line (mitigations=off).",
            extra_command_line="mitigations=off",
        ),
        Recording(
            "machine-a-loader",
            _A,
            "machine-a with its boot loader replaced: shim starts GRUB's image for removable "
            "media in place of the one for disks. Debian signed both, so Secure Boot lets it run "
            "and PCR 7 stays the same; its digest in PCR 4 gives it away. PCR 8 differs too, for "
            "it looks for its configuration elsewhere.",
            loader="gcdx64.efi.signed",
            loader_config="boot/grub/x86_64-efi/grub.cfg",
        ),
        Recording(
            "direct",
            _A,
            "The kernel started by the firmware itself (QEMU -kernel), no boot loader, no disk, "
            "Secure Boot off.",
            way="direct",
        ),
        Recording(
            "sha384",
            _A,
            "The direct boot with only the SHA-384 bank allocated.",
            way="direct",
            banks=("sha384",),
        ),
        Recording(
            "machine-c",
            _C,
            "Secure Boot off, network cards with option ROMs, a boot loader with as many commands "
            "as distributions write, and a system that used files with and without signatures "
            "and one that was written to meanwhile.",
            keys=False,
            loader_commands=_MENU,
            cards=("e1000", "rtl8139"),
            acts=_USE_FILES,
        ),
        Recording(
            "uki",
            _C,
            "Firmware, systemd-boot, a unified kernel image; Secure Boot off.",
            way="uki",
        ),
        Recording(
            "kexec",
            _C,
            "The unified kernel image has booted the same kernel once more with kexec. The boot "
            "log tells of the first boot only. This kernel does not carry its IMA list over, so "
            "the list of the second one does not lead to PCR 10.",
            way="uki",
            acts=_MEASURE_MORE,
            kexec=True,
        ),
    )
}

# Words go to the second serial port, where no kernel message gets between them.
_INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
mount -t devtmpfs dev /dev
exec >/dev/ttyS1
ima=/sys/kernel/security/ima
# Measured by IMA, and different on each machine.
cat /etc/machine >/dev/null
{acts}keep() {{ echo "@@BEGIN $1"; base64 -w 120 "$2"; echo "@@END $1"; }}
before=$(cat $ima/runtime_measurements_count)
echo "@@BEGIN pcrs"
for bank in {banks}; do
  pcr=0
  while [ $pcr -le 23 ]; do
    echo "$bank $pcr $(cat /sys/class/tpm/tpm0/pcr-$bank/$pcr)"
    pcr=$((pcr + 1))
  done
done
echo "@@END pcrs"
keep ima_log $ima/binary_runtime_measurements
keep boot_log /sys/kernel/security/tpm0/binary_bios_measurements
echo "@@IMA $before $(cat $ima/runtime_measurements_count)"
echo "@@DONE"
poweroff -f
"""
_KEXEC = """if ! grep -q second /proc/cmdline; then
{acts}recorded kexec /boot/vmlinuz /boot/initrd.gz "$(cat /proc/cmdline) second"
fi
"""
_APPLETS = ("sh", "mount", "cat", "base64", "echo", "poweroff")


def init(recording: Recording) -> str:
    """/init of the recorded system."""
    acts = _KEXEC.format(acts=recording.acts) if recording.kexec else recording.acts
    return _INIT.format(acts=acts, banks=" ".join(recording.banks))


def applets(recording: Recording) -> tuple[str, ...]:
    """The names by which it calls busybox."""
    return (*_APPLETS, "grep", "printf") if recording.acts else _APPLETS
