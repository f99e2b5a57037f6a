"""The sans-IO wire core: framing, the connection's states (both roles), and the codec.

Imports no Twisted, opens no socket and keeps no time: deadlines and writing are the door's.
"""
