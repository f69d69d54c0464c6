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
"""``python -m tools.fuzzing NAME --seconds N [--engine ENGINE]``."""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

NAMES = (
    "boot-log", "certification", "efi-image", "ek-certificate", "file-signature", "ima-log",
    "policy", "public", "quote", "reference-set", "signature", "signature-database",
)  # fmt: skip


def main() -> int:
    """Fuzz; 0: nothing was found, 1: the input is in a file that is named, 2: it cannot run."""
    parser = argparse.ArgumentParser(prog="tools/fuzz")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    options = parser.parse_args()
    if options.engine == "atheris":
        return _atheris(options.name, options.seconds)
    # Not before atheris could instrument what this imports.
    from tools.fuzzing.driving import fuzz  # noqa: PLC0415

    count, found = fuzz(options.name, options.seconds)
    if found is not None:
        print(f"{options.name}: at fault after {count} inputs, kept as {found}")
        return 1
    print(f"{options.name}: {count} inputs, nothing at fault")
    return 0


def _atheris(name: str, seconds: float) -> int:
    """Coverage-guided; the process ends inside."""
    if importlib.util.find_spec("atheris") is None:
        print("tools/fuzz: atheris is not installed: pip install .[fuzz]", file=sys.stderr)
        return 2
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["oat_trusted_filter"]):
        from tools.fuzzing.driving import drive, keep  # noqa: PLC0415
        from tools.fuzzing.targets import TARGETS  # noqa: PLC0415
    target = TARGETS[name]

    def one(data: bytes) -> None:
        try:
            drive(target, data)
        except BaseException:
            print(f"{name}: at fault, kept as {keep(name, data)}", flush=True)
            raise

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup(
            ["tools/fuzz", f"-max_total_time={int(seconds)}", "-rss_limit_mb=2048",
             "-max_len=65536", "-print_final_stats=1", corpus],
            one,
        )  # fmt: skip
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
