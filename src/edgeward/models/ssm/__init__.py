"""State-space layers: scan orders, the selective scan (S6) and the gated recurrence (SSD)."""
