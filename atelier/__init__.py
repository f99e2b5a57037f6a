"""The command line: `atelier serve`, `generate`, `demo` and what else an operator or a painter asks for."""
