# The names of this folder, each with its home. `__init__.py` reads them from here.
from .noise import threshold_from_noise as threshold_from_noise
from .options import TraceError as TraceError
from .options import TraceOptions as TraceOptions
from .tracer import trace as trace
from .tracer import trace_neurons as trace_neurons
