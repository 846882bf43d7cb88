# The names of this folder, each with its home. `__init__.py` reads them from here.
from .noise import threshold_from_noise as threshold_from_noise
from .pieces import TraceError as TraceError
from .tracer import trace as trace
from .tracer import trace_neurons as trace_neurons
