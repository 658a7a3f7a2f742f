"""The findings: each draws its facts, changes the image, and says where it is."""
