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
"""What goes wrong with the TCG's formats."""


class FormatError(ValueError):
    """Data is not what its specification says.

    :param code: stable, for programs, in kebab-case.
    :param message: one sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AttestationKeyError(FormatError):
    """A public area is in order, but a key like this must not attest."""


class SignatureError(Exception):
    """A signature was not made by this key over this message."""

    code = "signature-invalid"
