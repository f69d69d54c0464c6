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
"""Entry point of ``oat-enforcer``."""

import sys
import warnings


def main() -> int:
    """Run the enforcer; returns the exit status, which ``oat-enforcer --help`` explains."""
    try:
        with warnings.catch_warnings():
            # Below tooz eventlet is imported if it is there, which says that it is deprecated.
            warnings.simplefilter("ignore")
            from oat_trusted_filter.enforcer.program import run  # noqa: PLC0415 - may fail
    except ImportError as error:
        # The base install has no coordination library.
        sys.stderr.write(f"oat-enforcer: {error}; install oat-trusted-filter[enforcer]\n")
        return 3
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
