"""Models that somebody else has written: a Python class with `load`, `predict` and `unload`, in a process of its own.

    in the server      cards (what is known of one), describing (how that is found out), host (all of them), desk (one: its line,
                       its process, its deadlines), launching (how a process is begun)
    between            framing
    in the process     keeper (ends it and all that it begins), child (calls the class), inputs (what predict takes, as a schema)

What a class takes and gives is in `authoring`; `examples` are classes to read and to use. docs/custom-models.md shows how.
"""
