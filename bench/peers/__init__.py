"""What Atelier is measured beside, each in a process of its own."""
