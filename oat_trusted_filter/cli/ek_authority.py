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
"""``oat ek-authority``: who vouches for endorsement keys."""

import argparse
from collections.abc import Iterable

from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.output import Column, Record, RecordLister


class ListAuthorities(RecordLister):
    """List the authorities whose TPMs may enrol, the first to end first.

    The end of an authority costs no host its trust, but no TPM of it enrols afterwards: get the
    next certificate from the vendor while this one is shown as expiring.
    """

    columns = (
        Column("subject"),
        Column("valid_until"),
        Column("validity"),
        Column("valid_from", long=True),
        Column("fingerprint", long=True),
    )

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """The authorities."""
        return self.backend.items(path("ek-authorities"), "ek_authorities")
