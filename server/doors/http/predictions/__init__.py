"""Predictions: the prediction platform's dialect (D) and Replicate's conventions on the same routes (docs/http-predictions.md).

`asking` reads what is asked for, `wishes` the headers about it, `images` the picture that comes with it; `answers` is what is
said, `streaming` as server-sent events; `models` describes what can be painted with.
"""

from server.doors.http.predictions.routing import routes as routes
