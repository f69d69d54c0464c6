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
"""Entry point of ``oat-agent``."""

import sys


def main() -> int:
    """Run the agent; returns the exit status, which ``oat-agent --help`` explains."""
    try:
        from oat_trusted_filter.agent.program import run  # noqa: PLC0415 - may fail, see below
    except ImportError as error:
        # The base install has no TPM library, and the library needs the TPM2 software stack.
        sys.stderr.write(
            f"oat-agent: {error}; install oat-trusted-filter[agent] and what bindep.txt names\n"
        )
        return 3
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
