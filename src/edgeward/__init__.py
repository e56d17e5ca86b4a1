"""edgeward: from a medical-imaging model to evidence that it may run at the bedside."""

__version__ = "0.1.0"
