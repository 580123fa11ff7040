"""Where the time of a compiled step goes: a profile's operations, by what they are for.

Reads the profiler's own file, without TensorFlow, and the text of the compiled program, which says
for every operation which line of which file asked for it.
"""

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

# The first pattern found in the operation's name, its name in the traced program and the files that
# ask for it decides. A fusion is called after its last members: where those transpose, the rest of
# it is the cheap part.
PURPOSES = (
    ("layout for convolutions", r"conv_general_dilated|^(transpose|copy)\S* .*/models/"),
    ("augmentation", r"/augment/"),
    ("heads", r"/models/heads|dot_general"),
    ("batch norm, activation, residual", r"/models/"),
    ("optimizer, EMA", r"training/(optim|adam|ema)|optax/(_src|tree_utils|transforms)"),
    ("loss", r"/(losses|methods)/|training/forward"),
)
FORWARD, INPUT, WEIGHTS = (
    f"convolution, {what}" for what in ("forward", "gradient of input", "gradient of weights")
)
_CONTAINERS = ("while", "call", "conditional")  # their contents are events of their own


class Interval(NamedTuple):
    """One run of one operation; nanoseconds."""

    op: str
    start: float
    end: float


def record(work: Callable[[], Any]) -> list[Interval]:
    """Profiles one call of `work`."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(work())
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        on_devices = [plane for plane in planes if plane.name.startswith("/device:")]
        return _intervals(
            event
            for plane in on_devices or planes
            for line in plane.lines
            if line.name.startswith("Stream") or not on_devices
            for event in line.events
        )


def _intervals(events) -> list[Interval]:
    """Pairs starts and ends.

    On the CPU an event covers the start of an operation only, if other threads do the work; an
    event `end: NAME` follows when it is done.
    """
    begun, ended = collections.defaultdict(list), collections.defaultdict(list)
    for event in events:
        if event.name.startswith("end: "):
            ended[event.name.removeprefix("end: ")].append(event.start_ns)
        else:
            op = dict(event.stats).get("hlo_op")
            if op:
                begun[op].append((event.start_ns, event.end_ns))
    found = []
    for op, spans in begun.items():
        spans.sort()
        ends = sorted(ended[op]) if len(ended[op]) == len(spans) else [end for _, end in spans]
        found += [Interval(op, start, end) for (start, _), end in zip(spans, ends, strict=True)]
    return found


def attributed(intervals: Iterable[Interval]) -> dict[str, float]:
    """Gives each moment to the operations that run in it, in equal parts; seconds."""
    edges = sorted([(i.start, 1, i.op) for i in intervals] + [(i.end, -1, i.op) for i in intervals])
    seconds, running, before = collections.Counter(), collections.Counter(), 0.0
    for moment, change, op in edges:
        active = running.total()
        for other, number in running.items():
            seconds[other] += (moment - before) * 1e-9 * number / active
        running[op] += change
        if not running[op]:
            del running[op]
        before = moment
    return dict(seconds)


class Instruction(NamedTuple):
    """One line of a compiled program."""

    opcode: str
    shape: str
    op_name: str
    frame: int
    calls: str
    line: str


class Program:
    """The text of a compiled program, by operation."""

    def __init__(self, text: str):
        self._files = _numbered(text, "FileNames", r'(".*")')
        self._locations = _numbered(text, "FileLocations", r"file_name_id=(\d+).* line=(\d+)")
        self._frames = _numbered(
            text, "StackFrames", r"file_location_id=(\d+)(?: parent_frame_id=(\d+))?"
        )
        self.instructions: dict[str, Instruction] = {}
        self._members = collections.defaultdict(list)
        computation = ""
        for line in text.splitlines():
            if opening := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
                computation = opening[1]
            if parsed := _parsed(line):
                name, instruction = parsed
                self.instructions[name] = instruction
                self._members[computation].append(instruction)

    def is_container(self, op: str) -> bool:
        """Tells operations that only run others."""
        return op in self.instructions and self.instructions[op].opcode in _CONTAINERS

    def purpose(self, op: str) -> str:
        """Says what an operation is for: a convolution, or an entry of `PURPOSES`, or other."""
        family = self._family(op)
        for one in family:
            if kind := _convolution(one):
                return kind
        if any(one.opcode.startswith(("all-", "reduce-scatter", "collective")) for one in family):
            return "communication"
        for one in family:
            described = " ".join([op, one.op_name, *(file for file, _ in self._stack(one.frame))])
            for purpose, pattern in PURPOSES:
                if re.search(pattern, described):
                    return purpose
        return "other"

    def meaning(self, op: str) -> str:
        """Returns shape, name in the traced program, and the line of the library that asks."""
        family = self._family(op)
        if not family:
            return ""
        named = next((one for one in family if one.op_name), family[0])
        ours = [at for at in self._stack(named.frame) if "/ltssl_jax/" in at[0]]
        place = f" ({ours[0][0].split('/ltssl_jax/')[-1]}:{ours[0][1]})" if ours else ""
        return f"{family[0].shape} {named.op_name.partition('/')[2]}{place}"

    def _family(self, op):
        """Returns the operation and, of a fusion, its members."""
        one = self.instructions.get(op)
        return [one, *self._members.get(one.calls, ())] if one else []

    def _stack(self, frame):
        """Lists (file, line) from the innermost call outwards."""
        places = []
        while frame in self._frames:
            location, parent = self._frames[frame]
            file, line = self._locations[int(location)]
            places.append((self._files[int(file)][0].strip('"'), int(line)))
            frame = int(parent or 0) - 1  # stored plus one
        return places


def _numbered(text, title, pattern):
    """Reads one of the tables at the top of a program: number to groups of the pattern."""
    table = re.search(rf"^{title}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
    rows = (row.partition(" ") for row in table[1].splitlines()) if table else ()
    return {int(number): re.search(pattern, rest).groups() for number, _, rest in rows}


def _parsed(line):
    named = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
    opcode = named and re.search(r"(?:^|\s)([a-z][\w\-]*)\(", named[2])
    if not opcode:
        return None

    def field(pattern):
        found = re.search(pattern, named[2])
        return found[1] if found else ""

    shape = named[2][: opcode.start()].split("{")[0]
    frame = int(field(r"stack_frame_id=(\d+)") or 0)
    calls = field(r"calls=%?([\w.\-]+)")
    return named[1], Instruction(opcode[1], shape, field(r'op_name="([^"]*)"'), frame, calls, line)


def _convolution(one: Instruction) -> str:
    """Names the kind of a convolution; empty for everything else."""
    is_library = "conv" in one.line and one.opcode == "custom-call"
    if one.opcode != "convolution" and not is_library:
        return ""
    window = re.search(r"window=\{size=(\d+)", one.line)
    # A gradient of weights slides over a whole image; no filter here is as large as an image.
    if re.search("BackwardFilter|bw-filter", one.line) or window and int(window[1]) > 7:
        return WEIGHTS
    is_gradient = "transpose(" in one.op_name or re.search("BackwardInput|bw-input", one.line)
    return INPUT if is_gradient else FORWARD
