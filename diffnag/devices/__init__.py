"""Devices: how long an architecture's network takes on one, predicted from a few timings."""
