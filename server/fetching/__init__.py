"""Adapters that are fetched: found in the storage or at a host, brought to this machine, kept there for a while.

origins   what lies at a place now: files with sizes and etags, and their bytes from any offset
web       the same of an https address
cache     the folder on this machine: bounded, checked, the least recently used go
download  one file's way into it: resumed, limited, refused where it is no safetensors file
adapters  the `AdapterSource`: a name to a path
"""
