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
"""``oat host watch``: changes of verdicts as they happen.

It asks as the scheduler does: everything once, then with ``since`` and the entity tag for what has
changed, so it shows what relying parties learn, and when.
"""

import argparse
import collections
import datetime
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from oat_trusted_filter.cli.arguments import add_region, seconds
from oat_trusted_filter.cli.binding import duration
from oat_trusted_filter.cli.command import ServiceCommand
from oat_trusted_filter.cli.errors import Refused, Unreachable
from oat_trusted_filter.cli.host import LEVELS
from oat_trusted_filter.cli.text import printable
from oat_trusted_filter.client.verdicts import VerdictRecord, VerdictReply

_INTERVAL = 5.0
#: Seconds after which a backend that does not answer is said to be away.
_PATIENCE = 10.0

_Key = tuple[str, str]


class Change(NamedTuple):
    """What has become of a host; None: there is no verdict about it."""

    region: str
    host: str
    before: str | None
    after: str | None
    reason: str
    """Code of the first finding, or empty."""


class Known:
    """The verdicts as they were told last."""

    def __init__(self) -> None:
        self.verdicts: dict[_Key, VerdictRecord] = {}
        self.since: str | None = None
        self.etag: str | None = None
        self.expires_at = 0.0
        """Until when they may be used, on the monotonic clock."""

    def take(self, reply: VerdictReply) -> list[Change]:
        """Learn what a reply says; returns what is new, by region and host."""
        self.etag = reply.etag
        self.expires_at = reply.sent_at + reply.lease
        if reply.not_modified:
            return []
        self.since = reply.since
        after = {} if reply.full else dict(self.verdicts)
        after |= {(record.region, record.host): record for record in reply.hosts}
        for key in reply.deleted:
            after.pop(key, None)
        before, self.verdicts = self.verdicts, after
        touched = {(record.region, record.host) for record in reply.hosts} | set(reply.deleted)
        return list(_changes(before, after, sorted(touched | before.keys() - after.keys())))


def _changes(
    before: Mapping[_Key, VerdictRecord], after: Mapping[_Key, VerdictRecord], keys: Iterable[_Key]
) -> Iterator[Change]:
    for key in keys:
        old, new = before.get(key), after.get(key)
        was, now = old and (old.level, old.reason), new and (new.level, new.reason)
        if was != now:
            yield Change(*key, old and old.level, new and new.level, new.reason if new else "")


class WatchHosts(ServiceCommand):
    """Write a line for each change of a verdict, as it happens.

    The line has the time, the host, the levels before and after, and the code of the first finding.
    It ends with Ctrl-C, or when --until or --for say so. While the backend is away it says so
    on standard error and goes on asking.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add which hosts, and when to end."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-f", "--format", dest="formatter", choices=("value", "json"), default="value",
            help="value: a line for people; json: a JSON object a line (default: value)",
        )  # fmt: skip
        parser.add_argument(
            "--host", metavar="HOST", dest="hosts", action="append",
            help="only this host (may be repeated)",
        )  # fmt: skip
        add_region(parser, "only hosts of this region")
        parser.add_argument(
            "--interval", metavar="SECONDS", type=seconds, default=_INTERVAL,
            help=f"how often to ask (default: {_INTERVAL:g})",
        )  # fmt: skip
        parser.add_argument(
            "--until", choices=LEVELS, metavar="LEVEL",
            help="end as soon as all these hosts have this verdict: " + ", ".join(LEVELS),
        )  # fmt: skip
        parser.add_argument(
            "--for", metavar="TIME", dest="limit", type=duration,
            help="end after this time, 30s or 8h; with --until that is a failure",
        )  # fmt: skip
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Watch."""
        started_at = time.monotonic()
        limit = parsed_args.limit
        known = Known()
        self._start(known, parsed_args)
        away = False
        while not _reached(known, parsed_args):
            pause = parsed_args.interval
            if limit is not None:
                pause = min(pause, started_at + limit - time.monotonic())
            if pause <= 0:
                if parsed_args.until:
                    raise Refused(
                        "watch-timeout",
                        f"not all hosts were {parsed_args.until} within {limit} s",
                    )
                return
            time.sleep(pause)
            away = self._ask(known, parsed_args, away=away)

    def _start(self, known: Known, parsed_args: argparse.Namespace) -> None:
        """Learn how things stand, and sum it up."""
        known.take(self.backend.verdicts(None, None, _PATIENCE))
        levels = collections.Counter(
            record.level for record in known.verdicts.values() if _wanted(record, parsed_args)
        )
        counts = ", ".join(f"{levels[level]} {level}" for level in LEVELS)
        self._say(f"watching {levels.total()} hosts: {counts}")

    def _ask(self, known: Known, parsed_args: argparse.Namespace, *, away: bool) -> bool:
        """Ask once and write what is new; returns whether the backend is away.

        :param away: whether it was.
        """
        try:
            reply = self.backend.verdicts(known.since, known.etag, _PATIENCE)
        except Unreachable as error:
            if not away:
                left = max(known.expires_at - time.monotonic(), 0.0)
                self._say(f"{error}; its verdicts count for {left:.0f} s more")
            return True
        if away:
            self._say("the backend is back")
        for change in known.take(reply):
            if _wanted(change, parsed_args):
                self._write(change, as_json=parsed_args.formatter == "json")
        return False

    def _write(self, change: Change, *, as_json: bool) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        moment = now.replace("+00:00", "Z")
        if as_json:
            text = json.dumps(
                {
                    "time": moment,
                    "region": change.region,
                    "host": change.host,
                    "from": change.before,
                    "to": change.after,
                    "reason": change.reason,
                }
            )
        else:
            name = f"{change.region}/{change.host}" if change.region else change.host
            levels = f"{change.before or 'none'} -> {change.after or 'none'}"
            text = printable(f"{moment} {name} {levels} {change.reason}".rstrip())
        self.app.stdout.write(f"{text}\n")
        self.app.stdout.flush()

    def _say(self, text: str) -> None:
        self.app.stderr.write(f"{text}\n")
        self.app.stderr.flush()


def _wanted(item: Change | VerdictRecord, parsed_args: argparse.Namespace) -> bool:
    return parsed_args.region in (None, item.region) and (
        parsed_args.hosts is None or item.host in parsed_args.hosts
    )


def _reached(known: Known, parsed_args: argparse.Namespace) -> bool:
    """Whether all hosts that are watched are as they are wanted; none at all are not."""
    if parsed_args.until is None or time.monotonic() >= known.expires_at:
        return False
    found = [record for record in known.verdicts.values() if _wanted(record, parsed_args)]
    missing = set(parsed_args.hosts or ()) - {record.host for record in found}
    return (
        bool(found) and not missing and all(record.level == parsed_args.until for record in found)
    )
