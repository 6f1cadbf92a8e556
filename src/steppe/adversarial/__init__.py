"""Ascent to the largest loss in a ball, over weights or inputs."""
