"""The loss on a line as a picture, numbers and sentences."""
