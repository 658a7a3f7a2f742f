"""CT-RATE: its layout, the data set ``ct-rate``, the audit behind ``ctgen data check``, and simulated copies of it."""
