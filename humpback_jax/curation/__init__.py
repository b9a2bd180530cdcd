"""What tells a good pair: signals, pairs broken by rule, a calibrated curator, people's labels, calibration."""
