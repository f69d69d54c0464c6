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
"""Tags of hosts and the names of our traits. Needs nothing but the standard library, so anybody may
import it.

A tag is a name and a value. :func:`check_tag` says which may be made: those that a flavor can ask
for, whose extra spec holds the name in its key and several values with commas between them, and
that have a trait.

``CUSTOM_OAT_TRUSTED`` says that the verdict about a host is ``trusted``;
``CUSTOM_OAT_TAG_<NAME>_<VALUE>`` that a trusted host has a tag. Placement allows ``A`` to ``Z``,
``0`` to ``9`` and ``_`` in a trait, so name and value are encoded, each byte of their UTF-8 form by
itself:

* ``a`` to ``z`` and ``0`` to ``9`` become the capital letter or the digit,
* everything else becomes ``__`` and two hexadecimal digits.

The tag ``zone`` = ``eu-1`` has the trait ``CUSTOM_OAT_TAG_ZONE_EU__2D1``. A single ``_`` stands
between name and value and nowhere else, so no two tags share a trait: :func:`tag_of` finds the way
back.
"""

import re

PREFIX = "CUSTOM_OAT_"
TRUSTED = f"{PREFIX}TRUSTED"
TAG_PREFIX = f"{PREFIX}TAG_"
#: Most characters placement allows in a trait.
LONGEST_TRAIT = 255

#: ASCII, so nothing can look like something else; Nova takes these in the key of an extra spec.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
#: Printable ASCII but for the comma, no blank at either end.
_VALUE = re.compile(r"[!-+\--~](?:[ -+\--~]*[!-+\--~])?")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789")
_TAG = re.compile(r"((?:[A-Z0-9]|__[0-9A-F]{2})+)_((?:[A-Z0-9]|__[0-9A-F]{2})+)")
_UNIT = re.compile(r"__([0-9A-F]{2})|([A-Z0-9])")


class TraitError(ValueError):
    """A tag has no trait, or a trait no tag.

    :param code: ``tag-name``, ``tag-value``, ``tag-empty``, ``tag-not-text``, ``tag-too-long`` or
        ``trait-no-tag``.
    :param message: a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_ours(trait: str) -> bool:
    """Whether only the enforcer may set it."""
    return trait == TRUSTED or trait.startswith(TAG_PREFIX)


def check_tag(name: str, value: str) -> None:
    """Whether a tag may be made.

    :raises TraitError: ``tag-name``, ``tag-value`` or ``tag-too-long``.
    """
    if not _NAME.fullmatch(name):
        raise TraitError(
            "tag-name",
            f"{name[:80]!r} is no name of a tag: 1 to 63 ASCII letters, digits, dots, hyphens and "
            "underscores, the first a letter or digit",
        )
    if not _VALUE.fullmatch(value):
        raise TraitError(
            "tag-value",
            f"{value[:80]!r} is no value of a tag: printable ASCII characters without a comma, no "
            "blank at either end",
        )
    tag_trait(name, value)


def tag_trait(name: str, value: str) -> str:
    """The trait of a tag; two different tags never have the same.

    :raises TraitError: ``tag-empty``, ``tag-not-text`` or ``tag-too-long``.
    """
    trait = f"{TAG_PREFIX}{_encoded(name, 'name')}_{_encoded(value, 'value')}"
    if len(trait) > LONGEST_TRAIT:
        raise TraitError(
            "tag-too-long",
            f"the trait of tag {name[:80]!r} would have {len(trait)} characters, "
            f"{LONGEST_TRAIT} are possible; a lower-case letter or digit takes one, any other "
            "character four or more",
        )
    return trait


def tag_of(trait: str) -> tuple[str, str]:
    """Name and value of the tag a trait stands for.

    :raises TraitError: ``trait-no-tag``, no tag has this trait.
    """
    found = _TAG.fullmatch(trait, len(TAG_PREFIX)) if trait.startswith(TAG_PREFIX) else None
    if found is not None:
        try:
            name, value = _decoded(found[1]), _decoded(found[2])
            # Only one of the ways to write a character is the one we write.
            if tag_trait(name, value) == trait:
                return name, value
        except ValueError:
            pass
    raise TraitError("trait-no-tag", f"{trait[:LONGEST_TRAIT]!r} is the trait of no tag")


def _encoded(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise TraitError("tag-not-text", f"the {what} of a tag is {type(text).__name__}, not text")
    if not text:
        raise TraitError("tag-empty", f"the {what} of a tag is empty")
    try:
        octets = text.encode()
    except UnicodeEncodeError as error:
        raise TraitError("tag-not-text", f"the {what} of a tag is not Unicode text") from error
    return "".join(chr(octet).upper() if octet in _PLAIN else f"__{octet:02X}" for octet in octets)


def _decoded(encoded: str) -> str:
    return bytes(
        int(unit[1], 16) if unit[1] else ord(unit[2].lower()) for unit in _UNIT.finditer(encoded)
    ).decode()
