"""Readers of other projects' tables. Each turns files into cells; all say what is wrong with what they read."""
