"""A backbone of my own for ctgen."""
