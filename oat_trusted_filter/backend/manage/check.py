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
"""``oat-manage check``: what is wrong with an installation of the backend, in plain lines.

Nothing is changed. It is run as the user of the service, for what he can read is what counts.
"""

import ctypes
import datetime
import importlib.metadata
import os
import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from oat_trusted_filter.backend.api.service import read_ek_authorities, read_revocation_lists
from oat_trusted_filter.backend.challenge_key import read_challenge_keys
from oat_trusted_filter.backend.manage.authority import certificate_names
from oat_trusted_filter.backend.manage.initialise import ADMIN_FILE, SCHEDULER_FILE
from oat_trusted_filter.backend.program import open_store
from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.store.tables import hosts, verdicts
from oat_trusted_filter.cmd.check import Line, show_lines

_INIT = "run oat-manage init"
_OTHERS = stat.S_IRWXO
_GROUP_MAY_WRITE = stat.S_IWGRP
#: A certificate with less than this left is worth a word.
_SOON = datetime.timedelta(days=60)
_CLOCK_TOLERANCE_MS = 30_000
#: What adjtimex(2) returns while nobody keeps the clock in step.
_TIME_ERROR = 5
_TIMEX_BYTES = 512


def run_checks(settings: Settings, show: Callable[[str], None]) -> bool:
    """Look at everything and show a line for each.

    :returns: whether all of it is usable.
    """
    return show_lines(_lines(settings), show)


def _lines(settings: Settings) -> Iterator[Line]:
    now = datetime.datetime.now(datetime.UTC)
    yield from _configuration_lines(settings)
    yield from _file_lines(settings)
    yield from _database_lines(settings, now)
    yield from _tls_lines(settings, now)
    yield from _tpm_lines(settings)
    yield from _revocation_lines(settings, now)


def _configuration_lines(settings: Settings) -> Iterator[Line]:
    if not settings.config_files:
        yield Line(True, "configuration", "no file, all options have their defaults")
    for name in settings.config_files:
        mode = Path(name).stat().st_mode
        # A SQLite file needs no password; the URL of anything else is likely to hold one.
        if mode & _OTHERS and not settings.database.startswith("sqlite:"):
            yield Line(
                False,
                "configuration",
                f"{name} names a database and everybody can read it",
                f"chmod 640 {name}",
            )
        else:
            yield Line(True, "configuration", name)
    loopback = settings.auth_strategy == "noauth"
    advice = "whoever reaches the port may do everything" if loopback else ""
    yield Line(True, "service", f"{settings.url}, {settings.auth_strategy}", advice)


def _file_lines(settings: Settings) -> Iterator[Line]:
    folder = settings.state_dir
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        yield Line(False, "state folder", f"{folder}: {error.strerror}", "run oat-manage db sync")
        return
    if mode & (_OTHERS | _GROUP_MAY_WRITE):
        yield Line(
            False, "state folder", f"{folder} is open to others than its owner",
            f"chmod 750 {folder}",
        )  # fmt: skip
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Line(
            False, "state folder", f"{folder} cannot be written by the user {os.getuid()}",
            "run this as the user of the service",
        )  # fmt: skip
    else:
        yield Line(True, "state folder", str(folder))
    needed = [settings.challenge_key, settings.signing_key, settings.tls_key]
    handed_out = [folder / ADMIN_FILE, folder / SCHEDULER_FILE, folder / "ca.key"]
    for path in (*needed, *(path for path in handed_out if path.exists())):
        yield _secret_line(path)
    try:
        read_challenge_keys(settings.challenge_key)
    except StartError as error:
        yield Line(False, "challenge key", str(error))


def _secret_line(path: Path) -> Line:
    subject = "secret"
    try:
        mode = path.stat().st_mode
        path.open("rb").close()
    except OSError as error:
        return Line(False, subject, f"{path}: {error.strerror}", _INIT)
    if mode & (_OTHERS | stat.S_IRWXG):
        return Line(
            False, subject, f"{path} can be read by others (mode {stat.S_IMODE(mode):04o})",
            f"chmod 600 {path}, and replace it: it may be known",
        )  # fmt: skip
    return Line(True, subject, f"{path}, for its owner only")


def _database_lines(settings: Settings, now: datetime.datetime) -> Iterator[Line]:
    try:
        store = open_store(settings)
    except StartError as error:
        yield Line(False, "database", str(error))
        yield Line(True, "clock", "not compared, there is no database")
        return
    try:
        with store.read() as connection:
            approved = connection.scalar(
                select(func.count()).select_from(hosts).where(hosts.c.approved_name.is_not(None))
            )
            latest = connection.scalar(select(func.max(verdicts.c.appraised_at)))
        kind = store.engine.dialect.name
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or type(error).__name__
        yield Line(False, "database", f"the database refuses: {cause}")
        return
    finally:
        store.close()
    yield Line(True, "database", f"{kind}, schema of this release, {approved} approved hosts")
    yield _clock_line(latest, now)


def _clock_line(latest: int | None, now: datetime.datetime) -> Line:
    behind = (latest or 0) - int(now.timestamp() * 1000)
    if behind > _CLOCK_TOLERANCE_MS:
        return Line(
            False, "clock", f"{behind // 1000} s behind the last verdict in the database",
            "keep it in step with NTP (chrony, systemd-timesyncd)",
        )  # fmt: skip
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)) == _TIME_ERROR:
        return Line(
            True, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC",
            "the kernel does not know of anybody who keeps it in step (chrony, systemd-timesyncd)",
        )  # fmt: skip
    return Line(True, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, kept in step")


def _tls_lines(settings: Settings, now: datetime.datetime) -> Iterator[Line]:
    certificate, key = settings.tls_certificate, settings.tls_key
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        server = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except OSError as error:
        yield Line(False, "TLS", f"{certificate} with {key}: {error.strerror or error}", _INIT)
        return
    except ValueError as error:
        yield Line(False, "TLS", f"{certificate} is not a certificate: {error}", _INIT)
        return
    names = ", ".join(certificate_names(server)) or "no name"
    yield _validity_line("TLS", f"{certificate} for {names}", server, now, f"{_INIT} --host NAME")
    own = settings.state_dir / "ca.pem"
    if certificate.parent != settings.state_dir or not own.exists():
        return
    try:
        authority = x509.load_pem_x509_certificates(own.read_bytes())[0]
        server.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        yield Line(
            False, "TLS", f"{certificate} is not signed by the authority in {own}",
            f"{_INIT}; agents and schedulers need that file",
        )  # fmt: skip
    else:
        yield _validity_line("TLS authority", str(own), authority, now, "make a new one in time")


def _validity_line(
    subject: str, text: str, certificate: x509.Certificate, now: datetime.datetime, advice: str
) -> Line:
    ends = certificate.not_valid_after_utc
    if certificate.not_valid_before_utc > now:
        return Line(False, subject, f"{text} is not valid yet", "is the clock right?")
    if ends <= now:
        return Line(False, subject, f"{text} has expired on {ends:%Y-%m-%d}", advice)
    return Line(
        True, subject, f"{text}, valid until {ends:%Y-%m-%d}", advice if ends - now < _SOON else ""
    )


def _tpm_lines(settings: Settings) -> Iterator[Line]:
    try:
        import tpm2_pytss  # noqa: F401, PLC0415  loads the system's libraries, or does not

        yield Line(True, "TPM libraries", f"tpm2-pytss {importlib.metadata.version('tpm2-pytss')}")
    except ImportError as error:
        yield Line(
            False, "TPM libraries", f"hosts cannot enrol: {error}",
            "install what bindep.txt names",
        )  # fmt: skip
    if settings.allow_software_tpm:
        yield Line(
            True, "TPM makers", "software TPMs may enrol", "they prove nothing about a machine"
        )
    if settings.ek_ca_dir is None:
        yield Line(
            True, "TPM makers", "[attestation] ek_ca_dir is not set",
            "no certificate of a TPM is believed, an operator vouches for each host",
        )  # fmt: skip
        return
    try:
        authorities = read_ek_authorities(settings.ek_ca_dir)
    except StartError as error:
        yield Line(False, "TPM makers", str(error))
        return
    if not authorities:
        yield Line(
            False, "TPM makers", f"{settings.ek_ca_dir} is empty",
            "TPMs with a certificate cannot enrol; put the authorities of their makers there",
        )  # fmt: skip
        return
    yield Line(True, "TPM makers", f"{settings.ek_ca_dir}, {len(authorities)} authorities")


def _revocation_lines(settings: Settings, now: datetime.datetime) -> Iterator[Line]:
    if settings.ek_crl_dir is None:
        return
    try:
        late = read_revocation_lists(settings.ek_crl_dir).out_of_date(now)
    except StartError as error:
        yield Line(False, "revocation", str(error))
        return
    for path in late:
        yield Line(
            False, "revocation", f"{path} is out of date",
            "no TPM with a certificate of its authority can enrol; get a newer list",
        )  # fmt: skip
    if not late:
        yield Line(True, "revocation", f"{settings.ek_crl_dir}, all lists are up to date")
