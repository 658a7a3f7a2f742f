"""Small components that ship with the core and enter by the same door as anybody's plugin."""
