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
"""Boot logs that hosts have proven: each once, as long as a verdict or a report names it."""

from sqlalchemy import Connection, delete, exists, select
from sqlalchemy.exc import IntegrityError

from oat_trusted_filter.backend.store.errors import BootLogGone
from oat_trusted_filter.backend.store.tables import boot_logs, reports, verdicts


def data_of(connection: Connection, digest: str) -> bytes | None:
    """A boot log that some host has proven."""
    return connection.scalar(select(boot_logs.c.data).where(boot_logs.c.digest == digest))


def keep(connection: Connection, digest: str, data: bytes | None) -> None:
    """See to it that a boot log is stored.

    :param data: the boot log, if it was sent along.
    :raises BootLogGone: it is not stored and was not sent.
    """
    if connection.scalar(select(exists().where(boot_logs.c.digest == digest))):
        return
    if data is None:
        raise BootLogGone("the boot log is not known here any more; send it along")
    try:
        with connection.begin_nested():
            connection.execute(boot_logs.insert().values(digest=digest, data=data))
    except IntegrityError:
        pass  # another host has just brought the same one


def drop_unused(connection: Connection, digest: str | None) -> None:
    """Forget a boot log that nothing names any more."""
    if digest is not None:
        connection.execute(
            delete(boot_logs).where(
                boot_logs.c.digest == digest,
                ~exists().where(verdicts.c.boot_log_digest == digest),
                ~exists().where(reports.c.boot_log_digest == digest),
            )
        )
