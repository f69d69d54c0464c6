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
"""``/v1/authorities``: the authority of this service, for agents that know its fingerprint."""

import falcon
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from oat_trusted_filter.backend.api.exchange import answer
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.service import Service


def index(service: Service, req: falcon.Request, resp: falcon.Response) -> None:
    """The certificates of the authority, and of the one it has replaced."""
    path = service.settings.state_dir / "ca.pem"
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Problem("authority-unknown", "this service has no authority of its own") from error
    pems = [item.public_bytes(serialization.Encoding.PEM).decode() for item in found]
    answer(resp, {"certificates": pems})
