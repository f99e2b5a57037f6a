"""Where live sessions have frames from if not from a client: cameras, folders of pictures, recordings (docs/realtime.md).

    OpenLive.source → Sources.open → Player: reader.read on a thread → due → listener.source_frame → the session's tick

`reading` says what a reader is, `camera`, `folder` and `recording` are the three, `pictures` alone (with `camera`) knows OpenCV,
`playing` lets one reader be read at its pace, `sources` says who may open what, and lets a camera be shared.
"""
