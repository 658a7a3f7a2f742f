"""DICOM series in and out. Headers are read by pydicom; voxels by pydicom, or by SimpleITK's GDCM where they are compressed."""
