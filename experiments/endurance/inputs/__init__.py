"""The corpus of bad inputs: tables of calls, and the files they name."""
