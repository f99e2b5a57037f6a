"""The wire format: atelier.proto (its comments are the reference) and the module generated from it."""
