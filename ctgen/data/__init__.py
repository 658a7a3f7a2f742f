"""Cases: what a data set yields, and the data sets that ship with ctgen."""
