# The names of this folder, each with its home. `__init__.py` reads them from here.
from .teach import Taught as Taught
from .teach import teach as teach
