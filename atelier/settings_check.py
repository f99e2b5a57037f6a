"""`atelier settings check`: a folder that is handed out, looked at before anybody is given it."""

from __future__ import annotations

from pathlib import Path

from atelier.running import say
from config.layers import BadLayers, read_tree


def check(folder: Path) -> int:
    """Print what there is; the exit status is 2 where a node could not start with it."""
    try:
        tree = read_tree(folder)
    except BadLayers as error:
        say(str(error))
        return 2
    print(f"{len(tree.groups)} groups, {len(tree.instances)} instances: nothing is wrong with them")
    return 0
