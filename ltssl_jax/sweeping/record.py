"""What was asked of a sweep, in `sweep.json` of its directory: more may be asked later, but of it.

`axes`        fields that vary
`config`      the configuration that all runs share
`runs`        point of the grid, seed and directory of each, in the order in which they were asked
`comparison`  what came out, see `report.compared`
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from ltssl_jax import stages
from ltssl_jax.core import InputError
from ltssl_jax.sweeping.grid import Asked, Trial, configured

FILE = "sweep.json"


def read(root: pathlib.Path) -> dict[str, Any]:
    """Returns what is known of the sweep in a directory; nothing where there is none yet.

    Raises:
      InputError: the file is damaged.
    """
    path = root / FILE
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"axes": list, "config": dict, "runs": list}
        return {key: kind(found[key]) for key, kind in kinds.items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); delete it, and the same command writes it again"
        ) from error


def joined(
    known: Mapping[str, Any], what: Asked, trials: Sequence[Trial], root: pathlib.Path
) -> dict[str, Any]:
    """Adds what is asked to what is known.

    Raises:
      InputError: it is a sweep over other fields, or around another configuration.
    """
    shared = configured(what.config).to_dict()
    config = json.loads(json.dumps(flatten_dict(shared, sep=".")))
    config = {k: v for k, v in config.items() if not k.startswith(stages.INDIFFERENT)}
    asked = {"axes": list(what.axes), "config": config, "runs": []}
    if known:
        _check_same(known, asked, root)
    runs = {one["directory"]: one for one in known.get("runs", ())}
    for one in trials:
        directory = one.directory.relative_to(root).as_posix()
        runs[directory] = {"point": one.point, "seed": one.seed, "directory": directory}
    return asked | {"runs": list(runs.values())}


def _check_same(known: Mapping[str, Any], asked: Mapping[str, Any], root: pathlib.Path) -> None:
    if sorted(known["axes"]) != sorted(asked["axes"]):
        then, now = (", ".join(one["axes"]) or "seeds alone" for one in (known, asked))
        raise InputError(
            f"{root} holds a sweep over {then}, and this one is over {now}; give the same fields,"
            " one value is enough, or another --workdir"
        )
    then, now = known["config"], asked["config"]
    different = [
        f"{field}: then {then.get(field)!r}, now {now.get(field)!r}"
        for field in sorted(then | now)
        if then.get(field) != now.get(field)
    ]
    if different:
        raise InputError(
            f"{root} holds a sweep around another configuration; give another --workdir, or undo"
            " the difference:\n  " + "\n  ".join(different)
        )
