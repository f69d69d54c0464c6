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
"""The program ``oat-manage``."""

import argparse
import datetime
import getpass
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from oslo_config import cfg
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from oat_trusted_filter.backend import challenge_key
from oat_trusted_filter.backend.api.upkeep import purge_history
from oat_trusted_filter.backend.challenge_key import read_challenge_keys
from oat_trusted_filter.backend.manage import authority, credentials, database, signing_key
from oat_trusted_filter.backend.manage.check import run_checks
from oat_trusted_filter.backend.manage.files import SECRET, make_folder, write_file
from oat_trusted_filter.backend.manage.initialise import initialise
from oat_trusted_filter.backend.program import EXIT_OK, fail, open_store, parse_configuration
from oat_trusted_filter.backend.settings import Settings, StartError
from oat_trusted_filter.backend.signing import read_keys
from oat_trusted_filter.backend.store import audit, migrate
from oat_trusted_filter.backend.store.credentials import ADMIN, ROLES
from oat_trusted_filter.cmd.check import show_lines

PROG = "oat-manage"
_DESCRIPTION = "Sets up the attestation backend: its database, its certificates, its credentials."

_ROLES_HELP = "service: reads verdicts; reader: reads everything; admin: everything"

_OVERLAP_SECONDS = 86_400
_DAY_MS = 86_400_000
_MOST_DAYS = 3660


def run(argv: Sequence[str]) -> int:
    """Run one command; returns the exit status.

    :raises SystemExit: after ``--help`` and for mistakes on the command line.
    """
    command = cfg.SubCommandOpt(
        "command", title="commands", help="What to do.", handler=_add_commands
    )  # fmt: skip
    try:
        conf = parse_configuration(argv, PROG, description=_DESCRIPTION, cli_opts=[command])
        conf.command.work(Settings.from_conf(conf), conf.command)
    except StartError as error:
        return fail(PROG, error)
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or type(error).__name__
        return fail(PROG, StartError("database-unusable", f"the database refuses: {cause}"))
    return EXIT_OK


def _add_commands(commands: Any) -> None:
    db = commands.add_parser("db", help="the database").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    _add(db, "sync", _db_sync, "create the tables, or bring them to this release")
    _add(db, "version", _db_version, "print the revision of the schema, and that of this release")
    _add(
        db,
        "check",
        _db_check,
        "say whether schema, rows and audit trail are whole; exit status 1 if anything is not",
    )
    purge = _add(db, "purge", _db_purge, "delete reports as [history] says, now")
    purge.add_argument(
        "--audit-days",
        type=_days,
        help="also delete rows of the audit trail that are older; a new row tells of it",
    )
    restored = _add(
        db,
        "restored",
        _db_restored,
        "after a backup was put back: list what operators had done since, as far as the exported "
        "trail knows",
    )
    restored.add_argument(
        "--accept", action="store_true", help="let the service go on from there; is recorded"
    )

    init = _add(
        commands,
        "init",
        _init,
        "make certificates, keys and the first credentials in the state folder; "
        "what is there stays as it is",
    )
    init.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME_OR_IP",
        help="by which clients reach the backend; may be repeated",
    )

    key = commands.add_parser("key", help="the key that signs verdicts and the audit trail")
    key = key.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add(key, "list", _key_list, "print the thumbprints, that of the key that signs first")
    _add(
        key,
        "certificate",
        _key_certificate,
        "print the certificate of the key that signs, with which SAML assertions are verified",
    )
    _add(
        key,
        "rotate",
        _key_rotate,
        "sign with a new key from now on; what the old one has signed stays valid",
    )

    ca = commands.add_parser("ca", help="the authority that signs for the server")
    ca = ca.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add(ca, "fingerprint", _ca_fingerprint, "print what agents may be told in ca_fingerprint")
    _add(ca, "rotate", _ca_rotate, "let a new authority take over; the old one stays valid")
    _add(ca, "retire", _ca_retire, "forget the old one, when everybody has the new ca.pem")

    challenge = commands.add_parser("challenge-key", help="the key challenges are made with")
    challenge = challenge.add_subparsers(dest="action", required=True, metavar="ACTION")
    rotate = _add(
        challenge,
        "rotate",
        _challenge_key_rotate,
        "make challenges with a new key; those of the old one stay valid until they expire",
    )
    rotate.add_argument(
        "--in",
        dest="delay",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="when the new key takes over; until then copy the file to the other API hosts",
    )

    token = commands.add_parser("token", help="credentials of programs").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    create = _add(token, "create", _token_create, "make a token and print it, once")
    # Not "name": oslo.config calls the command by that.
    create.add_argument("holder", metavar="NAME", help="who it is for")
    create.add_argument("--role", choices=ROLES, required=True, help=_ROLES_HELP)
    create.add_argument(
        "--replace", action="store_true", help="make a token of this name invalid first"
    )
    create.add_argument("--region", help="the only region of the cloud it is good for")
    _add(token, "list", _token_list, "list names, roles and times; never the tokens themselves")
    rotate = _add(token, "rotate", _token_rotate, "make a new token and print it, once")
    rotate.add_argument("holder", metavar="NAME", help="who it is for")
    rotate.add_argument(
        "--overlap",
        type=_seconds,
        default=_OVERLAP_SECONDS,
        metavar="SECONDS",
        help=f"how long the old one stays valid beside it; a day ({_OVERLAP_SECONDS}) if not given",
    )
    for command in (create, rotate):
        command.add_argument(
            "--days", type=_days, help="how long it is valid; until it is revoked if not given"
        )
    revoke = _add(token, "revoke", _token_revoke, "make a token invalid, and the one before it")
    revoke.add_argument("holder", metavar="NAME", help="whose it is")

    _add(
        commands,
        "check",
        _check,
        "say in plain lines what is wrong with this installation; exit status 1 if anything is",
    )

    user = commands.add_parser("user", help="credentials of people").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    create = _add(user, "create", _user_create, "let a person in, or set another password")
    create.add_argument("holder", metavar="NAME", help="to log in with")
    create.add_argument("--role", choices=ROLES, default=ADMIN, help=_ROLES_HELP)


def _add(
    commands: Any, name: str, work: Callable[[Settings, Any], None], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(work=work)
    return parser


def _db_sync(settings: Settings, arguments: Any) -> None:
    _prepare_sqlite(settings)
    store = open_store(settings, need_synced=False)
    before, after = migrate.sync(store)
    store.close()
    if before == after:
        _say(f"the database is at revision {after} already")
    else:
        _say(f"the database is at revision {after} now")


def _db_version(settings: Settings, arguments: Any) -> None:
    store = open_store(settings, need_synced=False)
    found, wanted = migrate.version(store)
    store.close()
    _say(f"{found or 'none'}, this release has {wanted}")


def _db_check(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    whole = show_lines(database.check_database(settings, store), _say)
    store.close()
    if not whole:
        raise StartError("database-faulty", "each line above that says FAIL tells of a fault")


def _db_purge(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    now = credentials.now_ms()
    gone = purge_history(store, settings, now)
    _say(f"deleted {gone} reports")
    if arguments.audit_days is not None:
        before = now - round(arguments.audit_days * _DAY_MS)
        actor = credentials.actor()
        rows = store.write(lambda connection: audit.purge(connection, before, actor))
        _say(f"deleted {rows} rows of the audit trail")
    store.close()


def _db_restored(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    for line in database.restored(settings, store, accept=arguments.accept):
        _say(line)
    store.close()


def _init(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    written = initialise(settings, store, arguments.host)
    store.close()
    for path in written:
        _say(f"wrote {path}")
    if not written:
        _say(f"nothing was missing in {settings.state_dir}")


def _check(settings: Settings, arguments: Any) -> None:
    if not run_checks(settings, _say):
        raise StartError("installation-faulty", "each line above that says FAIL has to be mended")


def _key_list(settings: Settings, arguments: Any) -> None:
    for name in read_keys(settings.signing_key).public:
        _say(name)


def _key_certificate(settings: Settings, arguments: Any) -> None:
    certificate = read_keys(settings.signing_key).certificate
    sys.stdout.write(certificate.public_bytes(serialization.Encoding.PEM).decode())


def _key_rotate(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    name = signing_key.rotate(settings.signing_key)
    store.write(lambda connection: credentials.record_act(connection, "key.rotate", {"kid": name}))
    store.close()
    _say(name)


def _ca_fingerprint(settings: Settings, arguments: Any) -> None:
    _say(authority.fingerprint(settings.state_dir))


def _ca_rotate(settings: Settings, arguments: Any) -> None:
    written = authority.rotate(settings.state_dir, datetime.datetime.now(datetime.UTC))
    _record_files(settings, "ca.rotate", written)


def _ca_retire(settings: Settings, arguments: Any) -> None:
    _record_files(settings, "ca.retire", authority.retire(settings.state_dir))


def _record_files(settings: Settings, action: str, written: Sequence[Path]) -> None:
    store = open_store(settings)
    details = {"fingerprint": authority.fingerprint(settings.state_dir)}
    store.write(lambda connection: credentials.record_act(connection, action, details))
    store.close()
    for path in written:
        _say(f"wrote {path}")
    _say("let the service read it: systemctl reload oat-attestation-api")


def _challenge_key_rotate(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    path = settings.challenge_key
    now = time.time_ns() // 1_000_000
    since = now + int(arguments.delay * 1000)
    write_file(path, challenge_key.rotated(read_challenge_keys(path), now, since), SECRET)
    store.write(
        lambda connection: credentials.record_act(
            connection, "challenge-key.rotate", {"since": since}
        )
    )
    store.close()
    _say(f"wrote {path}")


def _token_create(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    token = credentials.create_token(
        store,
        arguments.holder,
        arguments.role,
        replace=arguments.replace,
        region=arguments.region,
        days=arguments.days,
    )
    store.close()
    _say(token)


def _token_list(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    for line in credentials.list_tokens(store):
        _say(line)
    store.close()


def _token_rotate(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    _say(
        credentials.rotate_token(
            store, arguments.holder, overlap=arguments.overlap, days=arguments.days
        )
    )
    store.close()


def _token_revoke(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    credentials.revoke_token(store, arguments.holder)
    store.close()
    _say(f"the token {arguments.holder} is no longer valid")


def _user_create(settings: Settings, arguments: Any) -> None:
    store = open_store(settings)
    credentials.create_user(store, arguments.holder, arguments.role, _password())
    store.close()
    _say(f"{arguments.holder} may log in as {arguments.role}")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise StartError("password-invalid", "the two are not the same")
    return password


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _MOST_DAYS * 86_400:
        raise ValueError(text)
    return seconds


def _days(text: str) -> int:
    days = int(text)
    if not 0 < days <= _MOST_DAYS:
        raise ValueError(text)
    return days


def _prepare_sqlite(settings: Settings) -> None:
    """Make folder and file of a SQLite database; nobody else shall read who may log in."""
    try:
        url = make_url(settings.database)
    except ArgumentError as error:
        raise StartError("configuration", "[database] connection is no SQLAlchemy URL") from error
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return
    path = Path(url.database).absolute()
    make_folder(path.parent)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, SECRET))
    except OSError as error:
        raise StartError(
            "state-dir-unwritable", f"{path} cannot be written: {error.strerror}"
        ) from error


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
