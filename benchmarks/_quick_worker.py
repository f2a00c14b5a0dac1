"""`fullfield` with what stands in for the networks in the harness: its worker is faster than a slow destination.

python -m benchmarks._quick_worker worker --settings FILE
"""

import sys

from tests.harness import networks


def main() -> None:
    """Be `fullfield`."""
    sys.modules["inference.reconstruct"] = networks
    from dicom_node.commands.main import main

    main()


if __name__ == "__main__":
    main()
