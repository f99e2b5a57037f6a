"""Everything that makes models/demo from nothing, one command for each part. See models/demo/README.md."""
