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
"""What stands behind the question mark, as the clients of OpenAttestation write it."""

from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import parse_qsl

import falcon

from oat_trusted_filter.backend.api.exchange import answer

Asked: TypeAlias = Mapping[str, str]


def asked(req: falcon.Request) -> Asked:
    """The fields of the query, without the blanks that CommandTool leaves around both sides."""
    pairs = parse_qsl(req.query_string, keep_blank_values=True)
    return {name.strip(): value.strip() for name, value in pairs}


def done(resp: falcon.Response, *, json: bool = False) -> None:
    """Answer that what was asked for is done: four characters, which clients print.

    :param json: OpenAttestation called them JSON here, and text elsewhere.
    """
    said(resp, "true")
    if json:
        resp.content_type = falcon.MEDIA_JSON


def said(resp: falcon.Response, text: str) -> None:
    """Answer with bare text."""
    answer(resp, text.encode())
    resp.content_type = falcon.MEDIA_TEXT
