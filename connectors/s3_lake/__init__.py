"""The data lake: every event, once, in Parquet objects on S3 whose names never change. See README.md."""
