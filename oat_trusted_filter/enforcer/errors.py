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
"""What can go wrong in the enforcer."""


class EnforcerError(Exception):
    """Any failure that is foreseen.

    :param code: stable, kebab-case.
    :param message: a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigurationError(EnforcerError):
    """An option cannot be used as it is. Code ``configuration-invalid``."""

    def __init__(self, message: str) -> None:
        super().__init__("configuration-invalid", message)


class PlacementError(EnforcerError):
    """Placement did not do what it was asked for."""


class PlacementUnavailable(PlacementError):
    """It makes no sense to go on asking for now.

    Codes: ``placement-unreachable``, ``placement-failed`` (its own fault, or that of what stands
    before it), ``placement-denied`` (our credentials), ``placement-reply-invalid``.
    """


class PlacementRefused(PlacementError):
    """One request was not possible. Code ``placement-refused``."""


class GenerationConflict(PlacementError):
    """Somebody else changed the resource provider. Code ``generation-conflict``."""


class ProviderGone(PlacementError):
    """There is no such resource provider. Code ``provider-gone``."""


def describe(error: Exception) -> str:
    """Code and sentence of an error in one line."""
    return " ".join(f"[{getattr(error, 'code', type(error).__name__)}] {error}".split())
