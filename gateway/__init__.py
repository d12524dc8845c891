"""The public door: HTTP for real clients in front of an engine, whose waiting images it packs into batches."""
