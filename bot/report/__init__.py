"""What is left of a run: a record (JSON), and a page that shows it (HTML, one file, readable offline)."""
