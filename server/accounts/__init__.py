"""Accounts: who there is, by which passwords, tokens and keys they are known, and what was done with them.

`records` says what is kept, `naming` what names and passwords may be, `passwords` hashes them on threads of their own,
`access_tokens` and `api_keys` are the two credentials, `directory` finds out whose one is (a cache over the records), `service`
is what can be done with accounts.
"""
