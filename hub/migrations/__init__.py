"""Schema migrations, run by Alembic. One Python file per step; the SQL of a step stands beside it under the same
name.
"""
