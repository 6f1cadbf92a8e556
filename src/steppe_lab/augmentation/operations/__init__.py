"""Operations on grey levels that augmentations are composed of, image by image.

They are those of the Python Imaging Library, which published policies are defined by:
images are uint8 of shape (n, C, H, W), results are equal to the grey level unless an
operation says otherwise, on every device. What changes from image to image is a tensor
of n numbers on the host.
"""
