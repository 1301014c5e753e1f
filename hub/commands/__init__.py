"""What the command line does, one file a command. Called by `hub.cli` only."""
