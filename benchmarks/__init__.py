"""What is claimed in figures, measured: `make bench`, or one benchmark, as `python -m benchmarks persona`.

Accuracies are the same on any machine but for rounding; seconds and throughputs are not, so every one of them
stands beside the float32 matrix peak of the same process. Nothing here is asserted as a test.
"""

import os

os.environ.setdefault("TQDM_DISABLE", "1")  # inherited by processes that are started; read on import
