"""What runs a model on a device: one folder each, found by name; see `edgeward.runtimes.base`."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)  # plugins may lie in other folders on sys.path
