"""edgeward: from a medical-imaging model to evidence that it may run at the bedside."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)  # plugins may live in another folder of this name
__version__ = "0.1.0"
