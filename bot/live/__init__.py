"""Bots of live sessions: they send frames at their rate, hear what the stream model makes of them, and keep each session's books.

`handle` is a client's end of one session, `profile` the scenario, `motion` what bots send, `phase` when the server ticks, `books`
what is counted, `shift` one process's share; `command` is `python -m bot live`, and `bot.kinds.live` judges.
"""
