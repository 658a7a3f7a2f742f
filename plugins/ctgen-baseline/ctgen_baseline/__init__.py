"""What CTFlow is compared with: a whole-volume U-Net, and generators whose place in any sound ranking is known."""
