"""The command `holdline`, which starts every part of Holdline and has the operator's commands."""
