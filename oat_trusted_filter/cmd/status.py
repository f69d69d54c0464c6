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
"""Entry point of ``oat-status``."""

import sys


def main() -> int:
    """Run the program; returns the exit status."""
    try:
        from oat_trusted_filter.backend.manage.upgrade import run  # noqa: PLC0415 - may fail, see below
    except ImportError as error:
        # The base install has neither a database nor a web framework.
        sys.stderr.write(
            f"oat-status: {error}; install oat-trusted-filter[backend] and what bindep.txt names\n"
        )
        return 2
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
