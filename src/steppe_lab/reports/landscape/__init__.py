"""The loss around networks as pictures, files of numbers, and sentences."""
