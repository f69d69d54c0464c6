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
"""``/metrics``: figures for Prometheus."""

from collections.abc import Iterator
from pathlib import Path

import falcon
from cryptography import x509
from sqlalchemy import Connection

from oat_trusted_filter.backend.api.measures import End
from oat_trusted_filter.backend.api.rules import milliseconds
from oat_trusted_filter.backend.api.service import Service
from oat_trusted_filter.backend.enrolment.certificate import authority
from oat_trusted_filter.backend.store import figures
from oat_trusted_filter.backend.store.figures import Figures
from oat_trusted_filter.backend.store.snapshot import Outlook

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def show(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """Hosts by verdict, how long requests take, refusals by code, and what ends when."""
    now = service.clock()
    outlook = service.snapshots.settle(now)
    with service.store.read() as connection:
        found = figures.read(connection)
        ends = list(_ends(service, found, outlook, connection))
    resp.content_type = _TEXT
    resp.set_header("Cache-Control", "no-store")
    resp.data = service.measures.written(found, ends, now)


def _ends(
    service: Service, found: Figures, outlook: Outlook, connection: Connection
) -> Iterator[End]:
    for name, moment in found.tokens.items():
        yield End("token", name, moment)
    if outlook.first_tags_end is not None:
        yield End("tags", "", outlook.first_tags_end)
    for reference in service.rules.now(connection).reference_sets:
        if reference.valid_until is not None:
            yield End("reference-set", reference.name, milliseconds(reference.valid_until))
    for known in map(authority, service.ek_authorities):
        yield End("ek-authority", known.subject, milliseconds(known.valid_until))
    settings = service.settings
    for path in dict.fromkeys((settings.tls_certificate, settings.state_dir / "ca.pem")):
        end = _end_of(path)
        if end is not None:
            yield End("certificate", path.name, end)


def _end_of(path: Path) -> int | None:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    return milliseconds(certificate.not_valid_after_utc)
