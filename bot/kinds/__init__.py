"""The six kinds of run. Each is a body: it lets shifts be worked, judges them, and gives the record what is its own."""
