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
"""Everything the handlers work with, made once for a worker."""

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from oat_trusted_filter.backend.api.auth import Authenticator, make_authenticator
from oat_trusted_filter.backend.api.boot_logs import BootLogs
from oat_trusted_filter.backend.api.challenge import Challenges
from oat_trusted_filter.backend.api.limits import Limit
from oat_trusted_filter.backend.api.measures import Measures
from oat_trusted_filter.backend.api.oat_compat.names import NameBook
from oat_trusted_filter.backend.api.rule_changer import RuleChanger
from oat_trusted_filter.backend.api.rules import RulesBook
from oat_trusted_filter.backend.api.snapshots import Snapshots
from oat_trusted_filter.backend.api.tag_records import TagBook
from oat_trusted_filter.backend.challenge_key import read_challenge_keys
from oat_trusted_filter.backend.enrolment.certificate import CertificateRefused, load_ca_store
from oat_trusted_filter.backend.enrolment.revocation import RevocationLists
from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.signing import Signing
from oat_trusted_filter.backend.store.engine import Store
from oat_trusted_filter.backend.watched import WatchedFile


def _clock() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Service:
    """One worker of the backend.

    ``clock`` tells milliseconds since 1970.
    """

    settings: Settings
    store: Store
    authenticator: Authenticator
    challenges: Challenges
    ek_authorities: tuple[bytes, ...]
    revocation_lists: RevocationLists
    boot_logs: BootLogs
    rules: RulesBook
    rule_changer: RuleChanger
    snapshots: Snapshots
    names: NameBook
    signing: Signing
    tags: TagBook
    limits: Mapping[str, Limit]
    measures: Measures
    clock: Callable[[], int]


def make_service(
    settings: Settings,
    store: Store,
    clock: Callable[[], int] = _clock,
    measures: Measures | None = None,
) -> Service:
    """Read keys and certificates and put the parts together.

    :param measures: None: of this process only.
    :raises StartError: ``challenge-key-missing``, ``challenge-key-invalid``,
        ``signing-key-missing``, ``signing-key-invalid``, ``ek-ca-invalid`` or ``ek-crl-invalid``.
    """
    boot_logs, book = BootLogs(), RulesBook()
    keys = WatchedFile(settings.challenge_key, read_challenge_keys)
    signing = Signing(settings.signing_key)
    tags = TagBook(signing)
    return Service(
        settings=settings,
        store=store,
        authenticator=make_authenticator(settings, store, clock),
        challenges=Challenges(lambda: keys.value, int(settings.challenge_lifetime * 1000)),
        ek_authorities=read_ek_authorities(settings.ek_ca_dir),
        revocation_lists=read_revocation_lists(settings.ek_crl_dir),
        boot_logs=boot_logs,
        rules=book,
        rule_changer=RuleChanger(
            store, boot_logs, book, tags, datetime.timedelta(seconds=settings.expiry_warning)
        ),
        snapshots=Snapshots(
            store, tags, lease=settings.verdict_lease, lifetime=settings.verdict_lifetime
        ),
        names=NameBook(store),
        signing=signing,
        tags=tags,
        limits={
            "challenges": Limit(settings.challenges_per_minute),
            "enrolments": Limit(settings.enrolments_per_minute),
            "activations": Limit(settings.enrolments_per_minute),
        },
        measures=measures or Measures(),
        clock=clock,
    )


def read_ek_authorities(folder: Path | None) -> tuple[bytes, ...]:
    """The CA certificates of TPM vendors, DER.

    :raises StartError: ``ek-ca-invalid``.
    """
    if folder is None:
        return ()
    try:
        return load_ca_store(folder)
    except CertificateRefused as error:
        raise StartError("ek-ca-invalid", f"[attestation] ek_ca_dir: {error}") from error


def read_revocation_lists(folder: Path | None) -> RevocationLists:
    """The revocation lists of TPM vendors.

    :raises StartError: ``ek-crl-invalid``.
    """
    try:
        return RevocationLists(folder)
    except CertificateRefused as error:
        raise StartError(error.code, f"[attestation] ek_crl_dir: {error}") from error
