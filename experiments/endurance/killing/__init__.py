"""Searches and trainings that are killed, and what they leave."""
