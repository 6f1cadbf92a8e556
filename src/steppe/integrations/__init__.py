"""Thin adapters to trainers and models; each imports its framework when it is used.

Trainers take one gradient per step. An adapter runs all passes of a steppe optimizer on
all micro-batches of the step, and leaves clipping, unscaling, schedules and the step
itself to the trainer, once.
"""
