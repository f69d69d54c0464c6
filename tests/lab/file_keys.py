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
"""Keys that sign files as evmctl does, for ``security.ima``."""

import datetime
import hashlib
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

_ALGORITHMS = {
    "sha1": (2, hashes.SHA1()),  # noqa: S303
    "sha256": (4, hashes.SHA256()),
    "sha384": (5, hashes.SHA384()),
    "sha512": (6, hashes.SHA512()),
}


class FileKey:
    """A key.

    :param private: of RSA or an elliptic curve.
    """

    def __init__(self, private):
        self.private = private

    @classmethod
    def rsa(cls, bits=2048):
        """A fresh RSA key."""
        return cls(rsa.generate_private_key(65537, bits))

    @classmethod
    def ecc(cls, curve=None):
        """A fresh key on an elliptic curve."""
        return cls(ec.generate_private_key(curve or ec.SECP256R1()))

    @property
    def pem(self):
        """The public key."""
        return (
            self.private.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    @property
    def key_id(self):
        """The end of the SHA-1 digest of the bit string."""
        return x509.SubjectKeyIdentifier.from_public_key(self.private.public_key()).digest[-4:]

    def certificate(self, subject_key_id=None):
        """A certificate in PEM, long expired.

        :param subject_key_id: bytes that go into the extension; None: it has none.
        """
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "files")])
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=1))
        )
        if subject_key_id is not None:
            builder = builder.add_extension(x509.SubjectKeyIdentifier(subject_key_id), False)
        made = builder.sign(self.private, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, content, algorithm="sha256", *, key_id=None, version=2):
        """The attribute of a file with this content."""
        number, hash_algorithm = _ALGORITHMS[algorithm]
        if isinstance(self.private, rsa.RSAPrivateKey):
            value = self.private.sign(content, padding.PKCS1v15(), hash_algorithm)
        else:
            value = self.private.sign(content, ec.ECDSA(hash_algorithm))
        head = struct.pack(">BBB4sH", 3, version, number, key_id or self.key_id, len(value))
        return head + value


def file_digest(content, algorithm="sha256"):
    """The digest of a file with this content."""
    return hashlib.new(algorithm, content).digest()
