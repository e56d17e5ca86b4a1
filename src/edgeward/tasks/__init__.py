"""What is predicted, a folder each: see `edgeward.tasks.base`."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
