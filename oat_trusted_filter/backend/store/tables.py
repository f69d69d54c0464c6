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
"""The tables.

Portable between SQLite, MariaDB and PostgreSQL: every length is explicit, moments are integers in
milliseconds since 1970 (UTC), names compare byte by byte (the default of MariaDB takes ``Node-A``
for ``node-a``), and documents are JSON in text columns.

What changes here needs a migration; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

NAME_LENGTH = 255
#: Region, a separator, host.
APPROVED_NAME_LENGTH = 2 * NAME_LENGTH + 1
DIGEST_LENGTH = 64
CODE_LENGTH = 64
WORD_LENGTH = 32
TAG_NAME_LENGTH = 63
VALUE_LENGTH = 128
KEY_LENGTH = 4096

_MARIADB = ("mysql", "mariadb")


def _text(length: int) -> TypeEngine[str]:
    """A string that is compared byte by byte."""
    return String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), *_MARIADB)


def _document() -> TypeEngine[str]:
    """A JSON document; TEXT of MariaDB ends at 64 kB."""
    return Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), *_MARIADB)


def _blob() -> TypeEngine[bytes]:
    """Binary data up to the size of a boot log; BLOB of MariaDB ends at 64 kB."""
    return LargeBinary().with_variant(mysql.LONGBLOB(), *_MARIADB)


def _identifier() -> TypeEngine[int]:
    """An automatic number; SQLite counts only in columns it calls INTEGER."""
    return BigInteger().with_variant(Integer(), "sqlite")


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: One row. ``cursor`` counts the changes relying parties have to hear of, ``epoch`` says of which
#: count it is, ``rules`` counts the changes of policies and reference sets.
state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", _text(36), nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("rules", BigInteger, nullable=False),
)

#: Bindings of a name to an endorsement key and an attestation key. ``approved_name`` is set while
#: the binding is approved, so its uniqueness is what allows one approved binding for a name.
#: ``policy`` is the one the host was bound to directly, empty if its labels decide; ``labels`` and
#: ``override`` are documents, null for none.
hosts = Table(
    "hosts",
    metadata,
    Column("id", _identifier(), primary_key=True),
    Column("region", _text(NAME_LENGTH), nullable=False),
    Column("host", _text(NAME_LENGTH), nullable=False, index=True),
    Column("ek_fingerprint", _text(DIGEST_LENGTH), nullable=False, index=True),
    Column("state", _text(WORD_LENGTH), nullable=False),
    Column("approved_name", _text(APPROVED_NAME_LENGTH), unique=True),
    Column("ak_public", LargeBinary(KEY_LENGTH)),
    Column("banks", _text(NAME_LENGTH)),
    Column("software_tpm", Boolean),
    Column("ek_certificate_status", _text(WORD_LENGTH)),
    Column("manufacturer", _text(NAME_LENGTH)),
    Column("service_host", _text(NAME_LENGTH)),
    Column("resource_provider", _text(NAME_LENGTH)),
    Column("policy", _text(NAME_LENGTH), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("enrolled_at", BigInteger),
    Column("labels", _document()),
    Column("override", _document()),
    Column("ek_hash", _text(DIGEST_LENGTH), index=True),
    Column("accept_expired", Boolean),
    UniqueConstraint("region", "host", "ek_fingerprint"),
    Index(None, "state", "enrolled_at"),
    sqlite_autoincrement=True,
)

#: The verdict about each approved binding, and the evidence it rests on. ``serial`` goes up with
#: every write, ``changed`` is the cursor of the last change relying parties hear of. ``deadline``
#: is null if there is nothing left to lapse. ``challenged_at`` is when the challenge was issued
#: that the evidence answers.
verdicts = Table(
    "verdicts",
    metadata,
    Column(
        "host_id",
        _identifier(),
        ForeignKey("hosts.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("serial", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False, index=True),
    Column("level", _text(WORD_LENGTH), nullable=False),
    Column("reason", _text(CODE_LENGTH), nullable=False),
    Column("findings", _document(), nullable=False),
    Column("reference_sets", _document(), nullable=False),
    Column("appraised_at", BigInteger),
    Column("deadline", BigInteger, index=True),
    Column("tpm_state", _text(NAME_LENGTH)),
    Column("evidence", _text(DIGEST_LENGTH)),
    Column("pcrs", _document()),
    Column("boot_log_digest", _text(DIGEST_LENGTH), index=True),
    Column("tags", _document()),
    Column("challenged_at", BigInteger),
)

#: Boot logs, each once however many hosts have it.
boot_logs = Table(
    "boot_logs",
    metadata,
    Column("digest", _text(DIGEST_LENGTH), primary_key=True),
    Column("data", _blob(), nullable=False),
)

#: How far the IMA log of a host is known, in the verdict's own transaction. ``kept`` is the size of
#: its files in bytes before they are packed; null if they were too many.
ima_states = Table(
    "ima_states",
    metadata,
    Column(
        "host_id",
        _identifier(),
        ForeignKey("hosts.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("document", _document(), nullable=False),
    Column("kept", BigInteger),
)

#: The files these logs have shown, packed. A table of its own, for they seldom change.
ima_files = Table(
    "ima_files",
    metadata,
    Column(
        "host_id",
        _identifier(),
        ForeignKey("hosts.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("data", _blob(), nullable=False),
)

#: Tags that may be assigned.
tags = Table(
    "tags",
    metadata,
    Column("name", _text(TAG_NAME_LENGTH), primary_key=True),
    Column("value", _text(NAME_LENGTH), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)

#: The signed record of the tags of a host. Serial numbers are never used again. ``starts_at`` and
#: ``ends_at`` are set as long as that is still to come.
tag_records = Table(
    "tag_records",
    metadata,
    Column("serial", _identifier(), primary_key=True),
    Column(
        "host_id",
        _identifier(),
        ForeignKey("hosts.id", ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    Column("record", _document(), nullable=False),
    Column("starts_at", BigInteger, index=True),
    Column("ends_at", BigInteger, index=True),
    Column("expired", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

#: Names relying parties have to forget.
deletions = Table(
    "deletions",
    metadata,
    Column("region", _text(NAME_LENGTH), primary_key=True),
    Column("host", _text(NAME_LENGTH), primary_key=True),
    Column("changed", BigInteger, nullable=False, index=True),
)

#: Enrolments that wait for the secret.
activations = Table(
    "activations",
    metadata,
    Column("id", _text(DIGEST_LENGTH), primary_key=True),
    Column("secret_digest", _text(DIGEST_LENGTH), nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("candidate", _document(), nullable=False),
)

#: Tokens that let one host take part without an operator. What is stored cannot be used.
enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("id", _text(WORD_LENGTH), primary_key=True),
    Column("digest", _text(DIGEST_LENGTH), nullable=False, unique=True),
    Column("region", _text(NAME_LENGTH)),
    Column("host", _text(NAME_LENGTH)),
    Column("created_by", _text(NAME_LENGTH), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("used_at", BigInteger),
    Column("used_by", _text(APPROVED_NAME_LENGTH)),
)

#: Challenges that led to a verdict, until they would be too old anyway.
spent_challenges = Table(
    "spent_challenges",
    metadata,
    Column("digest", _text(DIGEST_LENGTH), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

#: What enforcers last said of themselves; ``counts`` is a JSON document.
enforcers = Table(
    "enforcers",
    metadata,
    Column("region", _text(NAME_LENGTH), primary_key=True),
    Column("name", _text(NAME_LENGTH), primary_key=True),
    Column("leader", Boolean, nullable=False),
    Column("counts", _document(), nullable=False),
    Column("reported_at", BigInteger, nullable=False),
)

#: ``generation`` is the count of rules at the last change, so that no two versions share one.
reference_sets = Table(
    "reference_sets",
    metadata,
    Column("name", _text(NAME_LENGTH), primary_key=True),
    Column("document", _document(), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default="0"),
)

policies = Table(
    "policies",
    metadata,
    Column("name", _text(NAME_LENGTH), primary_key=True),
    Column("document", _document(), nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default="0"),
)

#: ``old_digest`` is that of the token it has replaced, valid until ``old_expires_at``.
tokens = Table(
    "tokens",
    metadata,
    Column("name", _text(NAME_LENGTH), primary_key=True),
    Column("digest", _text(DIGEST_LENGTH), nullable=False, unique=True),
    Column("role", _text(WORD_LENGTH), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("region", _text(NAME_LENGTH)),
    Column("expires_at", BigInteger),
    Column("old_digest", _text(DIGEST_LENGTH), index=True),
    Column("old_expires_at", BigInteger),
)

users = Table(
    "users",
    metadata,
    Column("name", _text(NAME_LENGTH), primary_key=True),
    Column("password_hash", _text(NAME_LENGTH), nullable=False),
    Column("role", _text(WORD_LENGTH), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

#: What happened, see :mod:`.audit`. Rows are added and never changed.
audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", _text(NAME_LENGTH), nullable=False),
    Column("action", _text(CODE_LENGTH), nullable=False),
    Column("region", _text(NAME_LENGTH), nullable=False),
    Column("host", _text(NAME_LENGTH), nullable=False, index=True),
    Column("details", _document(), nullable=False),
    Column("previous", _text(DIGEST_LENGTH), nullable=False),
    Column("digest", _text(DIGEST_LENGTH), nullable=False),
)

#: One row: number and digest of the last row of the trail.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", _text(DIGEST_LENGTH), nullable=False),
)

#: The history of verdicts, see :mod:`.reports`. ``host_id`` outlives the host, and then names
#: nothing. ``evidence`` is packed JSON; null if the report rests on that of the one before.
reports = Table(
    "reports",
    metadata,
    Column("id", _identifier(), primary_key=True),
    Column("host_id", _identifier(), nullable=False),
    Column("region", _text(NAME_LENGTH), nullable=False),
    Column("host", _text(NAME_LENGTH), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("before_until", BigInteger),
    Column("cause", _text(WORD_LENGTH), nullable=False),
    Column("level", _text(WORD_LENGTH), nullable=False),
    Column("reason", _text(CODE_LENGTH), nullable=False),
    Column("findings", _document(), nullable=False),
    Column("reference_sets", _document(), nullable=False),
    Column("policy", _text(NAME_LENGTH), nullable=False),
    Column("circumstances", _document(), nullable=False),
    Column("rules", BigInteger, nullable=False, index=True),
    Column("boot_log_digest", _text(DIGEST_LENGTH), index=True),
    Column("evidence", _blob()),
    Index(None, "host_id", "id"),
    Index(None, "host", "id"),
    sqlite_autoincrement=True,
)

#: Policies and reference sets as they were, each once.
rule_documents = Table(
    "rule_documents",
    metadata,
    Column("digest", _text(DIGEST_LENGTH), primary_key=True),
    Column("document", _document(), nullable=False),
)

#: Which of these documents were in force in a version of the rules that reports refer to.
rule_versions = Table(
    "rule_versions",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("names", _document(), nullable=False),
)

#: OEMs and operating systems of OpenAttestation; an OEM has no version.
oat_makers = Table(
    "oat_makers",
    metadata,
    Column("kind", _text(WORD_LENGTH), primary_key=True),
    Column("name", _text(NAME_LENGTH), primary_key=True),
    Column("version", _text(NAME_LENGTH), primary_key=True),
    Column("description", _document(), nullable=False),
)

#: MLEs of OpenAttestation, see :mod:`.oat_mles`. Their PCRs are those of a reference set.
oat_mles = Table(
    "oat_mles",
    metadata,
    Column("key", _text(DIGEST_LENGTH), primary_key=True),
    Column("type", _text(WORD_LENGTH), nullable=False),
    Column("maker", _text(NAME_LENGTH), nullable=False),
    Column("maker_version", _text(NAME_LENGTH), nullable=False),
    Column("name", _text(NAME_LENGTH), nullable=False),
    Column("version", _text(NAME_LENGTH), nullable=False),
    Column("attestation_type", _text(WORD_LENGTH), nullable=False),
    Column("description", _document(), nullable=False),
    Column("source", _text(NAME_LENGTH)),
)

oat_locations = Table(
    "oat_locations",
    metadata,
    Column("value", _text(VALUE_LENGTH), primary_key=True),
    Column("location", _text(NAME_LENGTH), nullable=False),
)
