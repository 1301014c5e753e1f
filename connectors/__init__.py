"""One folder per vendor: how to talk to it (client), what we write there (destination), what its errors mean
(errors).
"""
